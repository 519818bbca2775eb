// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"cmp"
	"fmt"
	"regexp"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// MaxCredentials bounds the repository credentials of a cache, each of which the server checks in the background.
	MaxCredentials = 16
	// maxRepositories bounds the repositories of a credential.
	maxRepositories = 32
	// maxRepositoryLength is the maximum length of a repository in Distribution.
	maxRepositoryLength = 255
	// maxRepositoriesLength bounds the repositories of a configuration, in bytes: the status repeats them, and an Extension
	// has both.
	maxRepositoriesLength = 64 << 10
	// maxReferenceNameLength bounds the name of an entry in spec.resources, which Gardener does not.
	maxReferenceNameLength = 253

	// These are the keys of a user name and a password in a Secret by default.
	defaultUsernameKey, defaultPasswordKey = "username", "password"
)

// repository matches the names of repositories in the OCI distribution specification.
var repository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// validateCredentials validates the references to Secrets of a cache that differ from those of the old one.
func validateCredentials(cache, old *registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	allErrs := validateReference(cache.SecretReferenceName, old.SecretReferenceName, "leave it unset for anonymous pulls", fldPath.Child("secretReferenceName"))
	if !ptr.Equal(cache.UsernameKey, old.UsernameKey) || !ptr.Equal(cache.PasswordKey, old.PasswordKey) {
		allErrs = append(allErrs, validateKeys(cache.UsernameKey, cache.PasswordKey, fldPath)...)
	}
	if cache.SecretReferenceName == nil {
		allErrs = append(allErrs, forbidKeys(cache.UsernameKey, cache.PasswordKey, fldPath)...)
	}
	if apiequality.Semantic.DeepEqual(cache.Credentials, old.Credentials) {
		return allErrs
	}
	return append(allErrs, validateRepositoryCredentials(cache.Credentials, fldPath.Child("credentials"))...)
}

// validateReference validates the name of an entry in spec.resources if it has changed. The remedy is for an empty name.
func validateReference(name, old *string, remedy string, fldPath *field.Path) field.ErrorList {
	switch {
	case name == nil || ptr.Equal(name, old):
		return nil
	case *name == "":
		return field.ErrorList{field.Invalid(fldPath, *name, "must be the name of an entry in spec.resources; "+remedy)}
	case len(*name) > maxReferenceNameLength:
		return field.ErrorList{field.TooLong(fldPath, *name, maxReferenceNameLength)}
	}
	return nil
}

// secretKey is a key of a Secret that a field names.
type secretKey struct{ field, value string }

// keysOf returns the keys that are set.
func keysOf(usernameKey, passwordKey *string) []secretKey {
	var keys []secretKey
	if usernameKey != nil {
		keys = append(keys, secretKey{"usernameKey", *usernameKey})
	}
	if passwordKey != nil {
		keys = append(keys, secretKey{"passwordKey", *passwordKey})
	}
	return keys
}

// validateKeys validates the keys of a user name and a password in a Secret.
func validateKeys(usernameKey, passwordKey *string, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	for _, key := range keysOf(usernameKey, passwordKey) {
		for _, message := range validation.IsConfigMapKey(key.value) {
			allErrs = append(allErrs, field.Invalid(fldPath.Child(key.field), key.value, "must be a key of the referenced Secret: "+message))
		}
	}
	if len(allErrs) > 0 || usernameKey == nil && passwordKey == nil {
		return allErrs
	}
	username := cmp.Or(ptr.Deref(usernameKey, ""), defaultUsernameKey)
	if username == cmp.Or(ptr.Deref(passwordKey, ""), defaultPasswordKey) {
		return field.ErrorList{field.Invalid(fldPath.Child("passwordKey"), username, "must differ from the key of the user name")}
	}
	return nil
}

// forbidKeys refuses keys without a reference to a Secret.
func forbidKeys(usernameKey, passwordKey *string, fldPath *field.Path) field.ErrorList {
	keys := keysOf(usernameKey, passwordKey)
	allErrs := make(field.ErrorList, len(keys))
	for i, key := range keys {
		allErrs[i] = field.Forbidden(fldPath.Child(key.field), "names a key of a Secret, but secretReferenceName is unset; set it, or remove this field")
	}
	return allErrs
}

// validateRepositoryCredentials validates all repository credentials of a cache.
func validateRepositoryCredentials(all []registry.RepositoryCredential, fldPath *field.Path) field.ErrorList {
	if len(all) > MaxCredentials {
		return field.ErrorList{field.TooMany(fldPath, len(all), MaxCredentials)}
	}
	var (
		allErrs field.ErrorList
		seen    = map[string]bool{}
	)
	for i, credential := range all {
		path := fldPath.Index(i)
		allErrs = append(allErrs, validateRepositories(credential.Repositories, seen, path.Child("repositories"))...)
		if credential.SecretReferenceName == "" {
			allErrs = append(allErrs, field.Required(path.Child("secretReferenceName"), "must be the name of an entry in spec.resources"))
		} else {
			allErrs = append(allErrs, validateReference(&credential.SecretReferenceName, nil, "", path.Child("secretReferenceName"))...)
		}
		allErrs = append(allErrs, validateKeys(credential.UsernameKey, credential.PasswordKey, path)...)
	}
	return allErrs
}

// validateRepositoriesLength limits the length of all repositories together, unless they were as long before.
func validateRepositoriesLength(newConfig, oldConfig *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	length := repositoriesLength(newConfig)
	if length <= max(maxRepositoriesLength, repositoriesLength(oldConfig)) {
		return nil
	}
	return field.ErrorList{field.Invalid(fldPath, field.OmitValueType{},
		fmt.Sprintf("the repositories of all credentials have %d bytes, more than the maximum of %d; list the paths above them instead", length, maxRepositoriesLength))}
}

func repositoriesLength(config *registry.RegistryConfig) int {
	length := 0
	for _, cache := range config.Caches {
		for _, credential := range cache.Credentials {
			for _, repository := range credential.Repositories {
				length += len(repository)
			}
		}
	}
	return length
}

// validateRepositories validates the repositories of a credential. Seen are those of the cache so far.
func validateRepositories(repositories []string, seen map[string]bool, fldPath *field.Path) field.ErrorList {
	switch {
	case len(repositories) == 0:
		return field.ErrorList{field.Required(fldPath, "must have at least one repository; the cache's secretReferenceName is for all repositories")}
	case len(repositories) > maxRepositories:
		return field.ErrorList{field.TooMany(fldPath, len(repositories), maxRepositories)}
	}
	var allErrs field.ErrorList
	for i, name := range repositories {
		switch {
		case len(name) > maxRepositoryLength:
			allErrs = append(allErrs, field.TooLong(fldPath.Index(i), name, maxRepositoryLength))
		case !repository.MatchString(name):
			allErrs = append(allErrs, field.Invalid(fldPath.Index(i), name,
				"must be a repository in lower case, for example team-a or team-a/app; it includes all repositories below it, without a wildcard or a slash at the end, and without the host"))
		case seen[name]:
			allErrs = append(allErrs, field.Duplicate(fldPath.Index(i), name))
		}
		seen[name] = true
	}
	return allErrs
}
