// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"
	"k8s.io/utils/clock"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// errNotIssued is the error for a credential before the first attempt to issue it.
var errNotIssued = errors.New("the credential has not been issued yet")

// proxyError is the error for a proxy that refuses to connect, with the status of its response. It does not repeat the
// proxy's words, which may contain the credential for it.
type proxyError int

// Error implements error.
func (e proxyError) Error() string {
	return fmt.Sprintf("the proxy refused the connection with status %d", e)
}

// RefusedByProxy implements [issuer.Refusal].
func (e proxyError) RefusedByProxy() {}

// togetherAfter is the part of the time until a renewal after which it joins another: each renewal is written to all
// namespaces, so fewer of them are better.
const togetherAfter = 0.75

// issuance has the credentials of a feed, and renews those that expire.
type issuance struct {
	clock clock.Clock
	// changed is called after the first attempt to issue a credential, and when another one was issued.
	changed func(first bool)

	mu       sync.Mutex
	renewals map[identity]*renewal
}

// identity is what a credential is issued from. Registries with the same identity share a renewal.
type identity struct {
	host       string
	connection string
	// material has no token that Gardener replaces.
	material credentials.Material
}

// renewal is a credential that is renewed until stop is called.
type renewal struct {
	material credentials.Material
	// renewer is nil if the material cannot be used; err is the reason.
	renewer *issuer.Renewer
	stop    context.CancelFunc

	// issued is when the credential was issued.
	issued time.Time
	// credential is the one that was issued last, zero if there is none. It stays after it has expired.
	credential credentials.Credential
	err        error
}

func identityOf(registry pullsecret.Registry, material credentials.Material) identity {
	material.WorkloadIdentity.Token = ""
	connection := registry.Connection
	return identity{
		host:       registry.Host,
		connection: strings.Join(append([]string{connection.HTTPSProxy, connection.CABundle}, connection.NoProxy...), "\n"),
		material:   material,
	}
}

// follow starts and stops renewals for a feed.
func (i *issuance) follow(ctx context.Context, feed pullsecret.Feed) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	wanted := map[identity]bool{}
	for _, secret := range feed.Secrets {
		for _, registry := range secret.Registries {
			for _, credential := range registry.Credentials {
				if credential.Material == nil || credential.Material.IsStatic() {
					continue
				}
				id := identityOf(registry, *credential.Material)
				wanted[id] = true
				if err := i.start(ctx, id, registry, *credential.Material); err != nil {
					errs = append(errs, fmt.Errorf("credential %s of upstream %s: %w", credential.Name, registry.Upstream, err))
				}
			}
		}
	}
	for id, renewal := range i.renewals {
		if !wanted[id] {
			renewal.stop()
			delete(i.renewals, id)
		}
	}
	return errors.Join(errs...)
}

// start starts a renewal, or hands a replaced token to the one that runs.
func (i *issuance) start(ctx context.Context, id identity, registry pullsecret.Registry, material credentials.Material) error {
	running := i.renewals[id]
	if running != nil && running.material == material {
		return nil
	}
	if i.renewals == nil {
		i.renewals = map[identity]*renewal{}
	}
	issuing, err := newIssuer(registry, material)
	switch {
	case running != nil && running.renewer != nil && err == nil:
		running.material = material
		running.renewer.Replace(issuing)
		return nil
	case running != nil && running.renewer != nil:
		return err // The renewal continues with the material that it has.
	case err != nil:
		i.renewals[id] = &renewal{material: material, stop: func() {}, err: err}
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	started := &renewal{material: material, renewer: issuer.NewRenewer(issuing, i.clock), stop: stop, err: errNotIssued}
	i.renewals[id] = started
	go started.renewer.Run(ctx, func() { i.attempted(ctx, started) })
	return nil
}

func newIssuer(registry pullsecret.Registry, material credentials.Material) (issuer.Issuer, error) {
	client, err := httpClient(registry.Connection)
	if err != nil {
		return nil, err
	}
	return issuer.New(material, registry.Host, client)
}

// attempted takes the result of an attempt.
func (i *issuance) attempted(ctx context.Context, renewal *renewal) {
	credential, err := renewal.renewer.Credential(ctx)
	i.mu.Lock()
	first := errors.Is(renewal.err, errNotIssued)
	changed := err == nil && credential != renewal.credential
	if changed {
		renewal.credential, renewal.issued = credential, i.clock.Now()
		i.renewTogether()
	}
	renewal.err = renewal.renewer.Err()
	i.mu.Unlock()
	if first || changed {
		i.changed(first)
	}
}

// renewTogether makes all renewals due that would be due soon. The caller holds i.mu.
func (i *issuance) renewTogether() {
	now := i.clock.Now()
	for _, renewal := range i.renewals {
		if renewal.renewer == nil || renewal.issued.IsZero() {
			continue
		}
		interval := renewal.renewer.Due().Sub(renewal.issued)
		if float64(now.Sub(renewal.issued)) > togetherAfter*float64(interval) {
			renewal.renewer.RenewBy(now)
		}
	}
}

// unissued returns the number of credentials for which no attempt has ended yet.
func (i *issuance) unissued() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	count := 0
	for _, renewal := range i.renewals {
		if errors.Is(renewal.err, errNotIssued) {
			count++
		}
	}
	return count
}

// credential returns the credential for a registry, and otherwise why there is none.
func (i *issuance) credential(registry pullsecret.Registry, material credentials.Material) (credentials.Credential, error) {
	if material.IsStatic() {
		return material.Credential, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	renewal := i.renewals[identityOf(registry, material)]
	switch {
	case renewal == nil:
		return credentials.Credential{}, errNotIssued
	case renewal.credential == credentials.Credential{}:
		return credentials.Credential{}, renewal.err
	}
	return renewal.credential, nil
}

// failure returns why the last attempt to issue a credential failed, nil if it did not or if there was none.
func (i *issuance) failure(registry pullsecret.Registry, material credentials.Material) error {
	if material.IsStatic() {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	renewal := i.renewals[identityOf(registry, material)]
	if renewal == nil || errors.Is(renewal.err, errNotIssued) {
		return nil
	}
	return renewal.err
}

// httpClient returns a client that connects as a cache does.
func httpClient(connection pullsecret.Connection) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	if connection.HTTPSProxy != "" {
		configuration := httpproxy.Config{HTTPSProxy: connection.HTTPSProxy, NoProxy: strings.Join(connection.NoProxy, ",")}
		choose := configuration.ProxyFunc()
		transport.Proxy = func(request *http.Request) (*url.URL, error) { return choose(request.URL) }
		transport.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, response *http.Response) error {
			if response.StatusCode != http.StatusOK {
				return proxyError(response.StatusCode)
			}
			return nil
		}
	}
	if connection.CABundle != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read CA certificates of the system: %w", err)
		}
		roots.AppendCertsFromPEM([]byte(connection.CABundle))
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	// Requests are rare: a connection that is kept would only be closed by the other side.
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport}, nil
}
