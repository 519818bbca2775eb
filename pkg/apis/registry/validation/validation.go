// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package validation says what is wrong with a RegistryConfig. It is pure: what
// needs other objects, such as the referenced Secrets, is checked at admission.
//
// An update is only held responsible for what it changes, field by field: rules
// may be newer than the configurations of running clusters.
package validation

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/registry"
)

// ValidateRegistryConfig returns everything that is wrong with a new configuration.
func ValidateRegistryConfig(config *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	return ValidateRegistryConfigUpdate(config, &registry.RegistryConfig{}, fldPath)
}

// ValidateRegistryConfigUpdate returns everything that is wrong with the change
// from the old to the new configuration. What did not change is not validated,
// so that it is called alone, not together with ValidateRegistryConfig.
// A cache is the same one as before if it has the same upstream.
func ValidateRegistryConfigUpdate(newConfig, oldConfig *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	var (
		allErrs    field.ErrorList
		cachesPath = fldPath.Child("caches")
	)
	if len(newConfig.Caches) == 0 {
		allErrs = append(allErrs, field.Required(cachesPath, "at least one cache is needed; to have none, remove the extension from the Shoot"))
	}

	old := byUpstream(oldConfig.Caches)
	for i := range newConfig.Caches {
		cache := &newConfig.Caches[i]
		allErrs = append(allErrs, validateCache(cache, old[cache.Upstream], cachesPath.Index(i))...)
	}
	allErrs = append(allErrs, validateNames(newConfig.Caches, oldConfig.Caches, cachesPath)...)
	return append(allErrs, validateNameHandover(newConfig.Caches, oldConfig.Caches, cachesPath)...)
}

// byUpstream returns the first cache of each upstream.
func byUpstream(caches []registry.RegistryCache) map[string]*registry.RegistryCache {
	result := make(map[string]*registry.RegistryCache, len(caches))
	for i := range caches {
		if _, ok := result[caches[i].Upstream]; !ok {
			result[caches[i].Upstream] = &caches[i]
		}
	}
	return result
}
