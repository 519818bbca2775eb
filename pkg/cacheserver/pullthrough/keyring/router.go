// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"context"
	"strings"

	"github.com/larder-project/larder/pkg/credentials"
)

// Router hands out the credentials of several keyrings for one upstream: for each repository those of the keyring with
// the longest prefix of it, by path segments, and for all others those of a default. Each keyring checks its credentials
// by itself, with its own repositories. It implements remote.Credentials.
type Router struct {
	fallback *Keyring
	prefixes map[string]*Keyring
	// scopes are the names of the keyrings other than the default: the first of their repositories.
	scopes map[*Keyring]string
}

// Route is a keyring with its repositories, at least one.
type Route struct {
	Keyring      *Keyring
	Repositories []string
}

// NewRouter returns a Router. Call it before the keyrings run.
func NewRouter(fallback *Keyring, routes []Route) *Router {
	r := &Router{fallback: fallback, prefixes: map[string]*Keyring{}, scopes: map[*Keyring]string{}}
	for _, route := range routes {
		r.scopes[route.Keyring] = route.Repositories[0]
		for _, repository := range route.Repositories {
			r.prefixes[repository] = route.Keyring
		}
		r.restrict(route.Keyring)
	}
	if len(routes) > 0 {
		r.restrict(fallback)
	}
	return r
}

func (r *Router) restrict(k *Keyring) {
	k.serves = func(repository string) bool { return r.keyring(repository) == k }
}

// keyring returns the keyring for a repository.
func (r *Router) keyring(repository string) *Keyring {
	for prefix := repository; prefix != ""; {
		if k, ok := r.prefixes[prefix]; ok {
			return k
		}
		cut := strings.LastIndexByte(prefix, '/')
		prefix = prefix[:max(cut, 0)]
	}
	return r.fallback
}

// For implements remote.Credentials.
func (r *Router) For(ctx context.Context, repository string) (string, credentials.Credential, error) {
	k := r.keyring(repository)
	scope, c, err := k.For(ctx, repository)
	if name, ok := r.scopes[k]; ok {
		scope = name
	}
	return scope, c, err
}

// Rejected expedites the next checks of the credentials for a repository, see [Keyring.Rejected].
func (r *Router) Rejected(repository string) {
	r.keyring(repository).Rejected()
}
