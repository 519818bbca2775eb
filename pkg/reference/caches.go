// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

// Credential is the reference of a cache to a credential.
type Credential struct {
	// Entry is the name of the entry in spec.resources.
	Entry string
	// Path is the path of the referencing field.
	Path *field.Path
	// Use is what the cache uses the credential for.
	Use ownersecret.Use
}

// Credentials returns the references of a cache, with its path: that for all repositories, if there is one, and those
// for some repositories in the order of the configuration.
func Credentials(cache *registry.RegistryCache, fldPath *field.Path) []Credential {
	var references []Credential
	use := ownersecret.Use{Upstream: cache.Upstream, RemoteURL: ptr.Deref(cache.RemoteURL, ""), PullSecret: cache.PullSecret != nil}
	if name := cache.SecretReferenceName; name != nil {
		use.UsernameKey, use.PasswordKey = ptr.Deref(cache.UsernameKey, ""), ptr.Deref(cache.PasswordKey, "")
		references = append(references, Credential{Entry: *name, Path: fldPath.Child("secretReferenceName"), Use: use})
	}
	for i, credential := range cache.Credentials {
		use.Repositories = credential.Repositories
		use.UsernameKey, use.PasswordKey = ptr.Deref(credential.UsernameKey, ""), ptr.Deref(credential.PasswordKey, "")
		references = append(references, Credential{
			Entry: credential.SecretReferenceName,
			Path:  fldPath.Child("credentials").Index(i).Child("secretReferenceName"),
			Use:   use,
		})
	}
	return references
}
