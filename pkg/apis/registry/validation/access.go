// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// MaxAccounts is the maximum number of accounts in a configuration. The controller in the Shoot watches the Secrets of
	// each.
	MaxAccounts = 32
	// maxAccountsOfCache bounds the accounts of a cache.
	maxAccountsOfCache = 16

	minGrantDuration, maxGrantDuration = time.Second, time.Hour
	maxOutageGrantDuration             = 24 * time.Hour

	// A password must not be replaced before the previous one has expired, an hour after the last rotation.
	minRotationPeriod, maxRotationPeriod = time.Hour, 30 * 24 * time.Hour
)

var accessModes = sets.New(registry.AccessCluster, registry.AccessPullSecrets, registry.AccessNodes)

// validateAccess validates who may pull from a cache, and its accounts, as far as they differ from the old ones.
func validateAccess(cache, old *registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	path := fldPath.Child("access")
	mode, oldMode := cache.AccessMode(), old.AccessMode()
	if mode != oldMode && !accessModes.Has(mode) {
		return field.ErrorList{field.NotSupported(path.Child("mode"), mode, sets.List(accessModes))}
	}
	var allErrs field.ErrorList
	if isRestrictedInPlain(cache) && !isRestrictedInPlain(old) {
		allErrs = append(allErrs, field.Forbidden(path.Child("mode"),
			fmt.Sprintf("%s needs TLS; set http.tls to true, or this field to %s", mode, registry.AccessCluster)))
	}
	access, before := ptr.Deref(cache.Access, registry.Access{}), ptr.Deref(old.Access, registry.Access{})
	allErrs = append(allErrs, validateGrant(mode, access.GrantDuration, before.GrantDuration, mode == oldMode, minGrantDuration, maxGrantDuration, path.Child("grantDuration"))...)
	allErrs = append(allErrs, validateGrant(mode, access.OutageGrantDuration, before.OutageGrantDuration, mode == oldMode, 0, maxOutageGrantDuration, path.Child("outageGrantDuration"))...)

	accounts := fldPath.Child("accounts")
	if hasAccountsForAll(cache) && !hasAccountsForAll(old) {
		allErrs = append(allErrs, field.Forbidden(accounts,
			fmt.Sprintf("the cache has access.mode %s, which needs no account; set it to %s or %s, or remove this field", mode, registry.AccessPullSecrets, registry.AccessNodes)))
	}
	if apiequality.Semantic.DeepEqual(cache.Accounts, old.Accounts) {
		return allErrs
	}
	return append(allErrs, validateAccounts(cache.Accounts, accounts)...)
}

// isRestrictedInPlain reports whether a cache restricts access, but serves plain HTTP, in which clients cannot identify
// themselves safely.
func isRestrictedInPlain(cache *registry.RegistryCache) bool {
	return cache.AccessMode() != registry.AccessCluster && cache.HTTP != nil && !ptr.Deref(cache.HTTP.TLS, true)
}

// hasAccountsForAll reports whether a cache has accounts, but lets everything pull without one.
func hasAccountsForAll(cache *registry.RegistryCache) bool {
	return cache.AccessMode() == registry.AccessCluster && len(cache.Accounts) > 0
}

func validateGrant(mode registry.AccessMode, duration, old *metav1.Duration, isSameMode bool, minimum, maximum time.Duration, fldPath *field.Path) field.ErrorList {
	switch {
	case duration == nil || isSameMode && ptr.Equal(duration, old):
		return nil
	case mode != registry.AccessPullSecrets:
		return field.ErrorList{field.Forbidden(fldPath,
			fmt.Sprintf("has an effect only in access.mode %s; set that mode, or remove this field", registry.AccessPullSecrets))}
	case duration.Duration < minimum || duration.Duration > maximum:
		return field.ErrorList{field.Invalid(fldPath, duration.Duration.String(), fmt.Sprintf("must be from %s to %s", minimum, maximum))}
	}
	return nil
}

func validateAccounts(accounts []registry.Account, fldPath *field.Path) field.ErrorList {
	if len(accounts) > maxAccountsOfCache {
		return field.ErrorList{field.TooMany(fldPath, len(accounts), maxAccountsOfCache)}
	}
	var (
		allErrs field.ErrorList
		seen    = sets.New[string]()
	)
	for i, account := range accounts {
		path := fldPath.Index(i)
		errs := validateText(account.Name, validation.DNS1123LabelMaxLength, validation.IsDNS1123Label, path.Child("name"))
		if len(errs) == 0 && seen.Has(account.Name) {
			errs = field.ErrorList{field.Duplicate(path.Child("name"), account.Name)}
		}
		seen.Insert(account.Name)
		allErrs = append(allErrs, errs...)
		if len(account.Namespaces) == 0 {
			allErrs = append(allErrs, field.Required(path.Child("namespaces"), "must have at least one namespace, which gets the Secret with the password"))
		}
		allErrs = append(allErrs, validateNamespaces(account.Namespaces, path.Child("namespaces"))...)
		switch {
		case account.Repositories == nil:
		case len(account.Repositories) == 0:
			// A template that renders no repositories must not open all of them.
			allErrs = append(allErrs, field.Required(path.Child("repositories"), "must have at least one repository; remove this field for all repositories"))
		default:
			allErrs = append(allErrs, validateRepositories(account.Repositories, map[string]bool{}, path.Child("repositories"))...)
		}
		if period := account.RotationPeriod; period != nil && (period.Duration < minRotationPeriod || period.Duration > maxRotationPeriod) {
			allErrs = append(allErrs, field.Invalid(path.Child("rotationPeriod"), period.Duration.String(),
				fmt.Sprintf("must be from %s to %s", minRotationPeriod, maxRotationPeriod)))
		}
	}
	return allErrs
}

// validateAccountSecrets refuses a pull secret with the name of an account's Secret.
func validateAccountSecrets(newConfig, oldConfig *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	clashes := clashesOf(newConfig).Difference(clashesOf(oldConfig))
	var allErrs field.ErrorList
	for i := range newConfig.Caches {
		pullSecret := newConfig.Caches[i].PullSecret
		if pullSecret == nil || !clashes.Has(pullSecret.Name) {
			continue
		}
		allErrs = append(allErrs, field.Invalid(fldPath.Index(i).Child("pullSecret", "name"), pullSecret.Name,
			"is the name of an account's Secret; use another name"))
	}
	return allErrs
}

// clashesOf returns the names of pull secrets that are also those of accounts' Secrets.
func clashesOf(config *registry.RegistryConfig) sets.Set[string] {
	names := sets.New[string]()
	for i := range config.Caches {
		for _, account := range config.Caches[i].Accounts {
			names.Insert(config.Caches[i].AccountSecretName(account))
		}
	}
	return names.Intersection(sets.KeySet(pullSecretsOf(config)))
}

func accountsOf(config *registry.RegistryConfig) int {
	count := 0
	for i := range config.Caches {
		count += len(config.Caches[i].Accounts)
	}
	return count
}
