// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/larder-project/larder/pkg/credentials"
)

// Set is a set of credentials that came together and are replaced together. The zero value means anonymous access.
type Set struct {
	// Name is what the set is called in public, such as the name of a Secret. It may be empty.
	Name string
	// scopes are the credentials by path of repositories; "" is for all others.
	scopes map[string]credentials.Credential
}

// NewSet returns a set of one credential for everything.
func NewSet(name string, c credentials.Credential) Set {
	return Set{Name: name, scopes: map[string]credentials.Credential{"": c}}
}

// For returns the credential with the longest path that holds the repository. It implements upstream.Credentials.
func (s Set) For(_ context.Context, repository string) (string, credentials.Credential, error) {
	for scope := repository; scope != ""; {
		if c, ok := s.scopes[scope]; ok {
			return scope, c, nil
		}
		cut := strings.LastIndexByte(scope, '/')
		scope = scope[:max(cut, 0)]
	}
	return "", s.scopes[""], nil
}

// All returns the credentials of the set, each once, in a fixed order.
func (s Set) All() []credentials.Credential {
	var all []credentials.Credential
	for _, scope := range slices.Sorted(maps.Keys(s.scopes)) {
		if c := s.scopes[scope]; !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// Same says whether two sets hold the same credentials, whatever they are called.
func (s Set) Same(other Set) bool {
	return maps.Equal(s.scopes, other.scopes)
}
