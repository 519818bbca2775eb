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

// Set is a set of credentials that are replaced together. The zero value means anonymous access.
type Set struct {
	// Name is the public name of the set, such as that of a Secret. It may be empty.
	Name string
	// scopes are the credentials by repository path; "" is for all other repositories.
	scopes map[string]credentials.Credential
	// material is that from which the credential for all repositories is issued; zero if the set has its credentials.
	material credentials.Material
	// serves reports whether the set is the one for a repository; nil means that it is for all.
	serves func(repository string) bool
}

// NewSet returns a set of one credential for all repositories.
func NewSet(name string, c credentials.Credential) Set {
	return Set{Name: name, scopes: map[string]credentials.Credential{"": c}}
}

// For implements remote.Credentials. It returns the credential with the longest path that contains the repository.
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

// All implements remote.CredentialSet. The order is fixed.
func (s Set) All() []credentials.Credential {
	var all []credentials.Credential
	for _, scope := range slices.Sorted(maps.Keys(s.scopes)) {
		if c := s.scopes[scope]; !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// Serves implements remote.CredentialSet.
func (s Set) Serves(repository string) bool {
	return s.serves == nil || s.serves(repository)
}

// isAnonymous reports whether the set has no credentials, and none are issued for it.
func (s Set) isAnonymous() bool { return len(s.scopes) == 0 && s.material == credentials.Material{} }

// sameCredentials reports whether two sets hold the same credentials, whatever their names.
func (s Set) sameCredentials(other Set) bool {
	return maps.Equal(s.scopes, other.scopes) && s.material.Same(other.material)
}
