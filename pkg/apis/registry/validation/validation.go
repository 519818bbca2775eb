// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package validation validates a RegistryConfig. It is pure: checks that need other objects, such as the referenced
// Secrets, are part of admission.
//
// The validation of an update covers only what the update changes, field by field: rules may be newer than the
// configurations of running clusters.
package validation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/registry"
)

// MaxCaches is the maximum number of caches in a configuration, and of caches and their repository credentials
// together. The controller deploys the objects of all caches with one ManagedResource, whose Secret can hold 1 MiB: 150
// caches with every field set need 0.9 MiB, and a repository credential needs less than a cache.
const MaxCaches = 150

// ValidateCount returns an error if there are more caches and credentials than [MaxCaches], or more Secrets for
// connections than [MaxConnectionSecrets], and more than before. Call it first: all other checks take time for each of
// them, and each Secret has to be read.
func ValidateCount(newConfig, oldConfig *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	cachesPath := fldPath.Child("caches")
	if count := len(newConfig.Caches); count > max(MaxCaches, len(oldConfig.Caches)) {
		return field.ErrorList{field.TooMany(cachesPath, count, MaxCaches)}
	}
	if count := credentialsOf(newConfig); count > 0 && count > credentialsOf(oldConfig) && len(newConfig.Caches)+count > MaxCaches {
		return field.ErrorList{field.Invalid(cachesPath, field.OmitValueType{},
			fmt.Sprintf("must have at most %d caches and credentials together, but has %d caches with %d credentials", MaxCaches, len(newConfig.Caches), count))}
	}
	if count := accountsOf(newConfig); count > max(MaxAccounts, accountsOf(oldConfig)) {
		return field.ErrorList{field.Invalid(cachesPath, field.OmitValueType{}, fmt.Sprintf("must have at most %d accounts, but has %d", MaxAccounts, count))}
	}
	return append(validateConnectionSecrets(newConfig, oldConfig, cachesPath), validateRepositoriesLength(newConfig, oldConfig, cachesPath)...)
}

// credentialsOf returns the number of repository credentials.
func credentialsOf(config *registry.RegistryConfig) int {
	count := 0
	for i := range config.Caches {
		count += len(config.Caches[i].Credentials)
	}
	return count
}

// ValidateRegistryConfig validates a new configuration.
func ValidateRegistryConfig(config *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	return ValidateRegistryConfigUpdate(config, &registry.RegistryConfig{}, fldPath)
}

// ValidateRegistryConfigUpdate validates the changes from the old to the new configuration. It does not validate what
// did not change, so call it instead of ValidateRegistryConfig, not in addition. Caches are identified by their
// upstream.
func ValidateRegistryConfigUpdate(newConfig, oldConfig *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	if errs := ValidateCount(newConfig, oldConfig, fldPath); len(errs) > 0 {
		return errs
	}
	var (
		allErrs    field.ErrorList
		cachesPath = fldPath.Child("caches")
	)
	if len(newConfig.Caches) == 0 {
		allErrs = append(allErrs, field.Required(cachesPath, "must have at least one cache; to run no caches, remove the extension from the Shoot"))
	}

	old := byUpstream(oldConfig.Caches, func(cache *registry.RegistryCache) string { return cache.Upstream })
	for i := range newConfig.Caches {
		cache := &newConfig.Caches[i]
		allErrs = append(allErrs, validateCache(cache, old[cache.Upstream], cachesPath.Index(i))...)
	}
	allErrs = append(allErrs, validatePullSecrets(newConfig, oldConfig, cachesPath)...)
	allErrs = append(allErrs, validateAccountSecrets(newConfig, oldConfig, cachesPath)...)
	newNames, oldNames := namesOf(newConfig.Caches), namesOf(oldConfig.Caches)
	allErrs = append(allErrs, validateNames(newNames, oldNames, cachesPath)...)
	return append(allErrs, validateNameHandover(newNames, oldNames, cachesPath)...)
}

// byUpstream returns the first cache of each upstream.
func byUpstream[T any](caches []T, upstreamOf func(*T) string) map[string]*T {
	result := make(map[string]*T, len(caches))
	for i := range caches {
		cache := &caches[i]
		if _, ok := result[upstreamOf(cache)]; !ok {
			result[upstreamOf(cache)] = cache
		}
	}
	return result
}
