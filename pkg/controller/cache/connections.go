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
	for _, reference := range cache.ConnectionReferences() {
		if err := r.readInto(ctx, reference, &connection); err != nil {
			problems = append(problems, err)
		}
	}
	return connection, problems
}

func (r connectionReader) readInto(ctx context.Context, reference registry.ConnectionReference, connection *component.Connection) error {
	switch reference.Purpose {
	case registry.CABundle:
		bundle, err := once(ctx, r.caBundles, reference.Entry, r.readCABundle)
		connection.CABundle = bundle
		return err
	case registry.ClientCertificate:
		pair, err := once(ctx, r.clientCertificates, reference.Entry, r.secrets.ClientCertificate)
		if err == nil {
			connection.ClientCertificate = &component.Certificate{Certificate: pair.Certificate, Key: pair.Key}
		}
		return err
	case registry.ProxyCredential:
		credential, err := once(ctx, r.proxyCredentials, reference.Entry, r.secrets.ProxyCredential)
		if err == nil {
			connection.ProxyCredential = &credential
		}
		return err
	}
	return fmt.Errorf("unknown purpose of a Secret: %s", reference.Purpose)
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
