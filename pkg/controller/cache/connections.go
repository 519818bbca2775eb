// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/reference"
)

// connectionReader reads what caches need to connect to their upstreams, each entry of spec.resources once. Like a
// credential, something that cannot be used is an error: without it, the cache would connect in another way than its
// owner wants.
type connectionReader struct {
	secrets            reference.Reader
	caBundles          map[string]result[[]byte]
	clientCertificates map[string]result[ownersecret.KeyPair]
	proxyCredentials   map[string]result[credentials.Credential]
}

type result[T any] struct {
	value T
	err   error
}

func newConnectionReader(secrets reference.Reader) connectionReader {
	return connectionReader{
		secrets:            secrets,
		caBundles:          map[string]result[[]byte]{},
		clientCertificates: map[string]result[ownersecret.KeyPair]{},
		proxyCredentials:   map[string]result[credentials.Credential]{},
	}
}

// read returns the content of the Secrets for the connections of a cache, and an error for each that cannot be used.
func (r connectionReader) read(ctx context.Context, cache registry.RegistryCache) (component.Connection, []error) {
	var (
		connection component.Connection
		problems   []error
	)
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	if entry := cache.CABundleSecretReferenceName; entry != nil {
		bundle, err := once(ctx, r.caBundles, *entry, r.readCABundle)
		connection.CABundle = bundle
		note(err)
	}
	if entry := cache.ClientCertificateSecretReferenceName; entry != nil {
		pair, err := once(ctx, r.clientCertificates, *entry, r.secrets.ClientCertificate)
		if err == nil {
			connection.ClientCertificate = &component.Certificate{Certificate: pair.Certificate, Key: pair.Key}
		}
		note(err)
	}
	if cache.Proxy != nil && cache.Proxy.SecretReferenceName != nil {
		credential, err := once(ctx, r.proxyCredentials, *cache.Proxy.SecretReferenceName, r.secrets.ProxyCredential)
		if err == nil {
			connection.ProxyCredential = &credential
		}
		note(err)
	}
	return connection, problems
}

// readCABundle limits the length of a bundle, since all of them are in memory at the same time, and in one Secret.
func (r connectionReader) readCABundle(ctx context.Context, entry string) ([]byte, error) {
	bundle, err := r.secrets.CABundle(ctx, entry)
	if err == nil && len(bundle) > ownersecret.MaxCABundleLength {
		return nil, problem.Configuration(fmt.Errorf("the CA bundle that spec.resources entry %q references has %d bytes, more than the maximum of %d; create a new Secret and reference it",
			entry, len(bundle), ownersecret.MaxCABundleLength))
	}
	return bundle, err
}

// once reads the content for an entry of spec.resources if that has not been read before.
func once[T any](ctx context.Context, known map[string]result[T], entry string, read func(context.Context, string) (T, error)) (T, error) {
	found, ok := known[entry]
	if !ok {
		found.value, found.err = read(ctx, entry)
		known[entry] = found
	}
	return found.value, found.err
}

// connectionReferences returns the entries of spec.resources that a cache references for its connections.
func connectionReferences(cache registry.RegistryCache) []string {
	var entries []string
	for _, entry := range []*string{cache.CABundleSecretReferenceName, cache.ClientCertificateSecretReferenceName} {
		if entry != nil {
			entries = append(entries, *entry)
		}
	}
	if cache.Proxy != nil && cache.Proxy.SecretReferenceName != nil {
		entries = append(entries, *cache.Proxy.SecretReferenceName)
	}
	return entries
}
