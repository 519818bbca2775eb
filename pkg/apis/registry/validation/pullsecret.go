// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"maps"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// MaxPullSecrets is the maximum number of different pull secrets in a configuration. The controller in the Shoot
	// watches each name.
	MaxPullSecrets = 10
	// maxPullSecretName bounds the name of a pull secret, which is part of reports and of names of other objects.
	maxPullSecretName = 63
	// maxNamespaces bounds the list of namespaces of a pull secret; a selector can select any number.
	maxNamespaces = 100
	// maxSelectorTerms bounds the labels, and the expressions, of a selector; maxSelectorValues bounds the values of one.
	maxSelectorTerms  = 10
	maxSelectorValues = 20
	// maxSelectorText is the maximum length of a label's key with its prefix. Values are shorter.
	maxSelectorText = 317
	// maxQuotedKey bounds what an error quotes of a label's key that is too long.
	maxQuotedKey = 63
)

// validatePullSecret validates the pull secret of a cache if it, or what it depends on, differs from the old one.
func validatePullSecret(cache, old *registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	pullSecret := cache.PullSecret
	if pullSecret == nil {
		return nil
	}
	var allErrs field.ErrorList
	path := fldPath.Child("pullSecret")
	isNew := old.PullSecret == nil
	if !isPrivate(cache) && (isNew || isPrivate(old)) {
		allErrs = append(allErrs, field.Forbidden(path,
			"a pull secret has the credentials of its cache, but the cache has none; set secretReferenceName or credentials, or remove this field"))
	}
	if isNew || !ptr.Equal(cache.RemoteURL, old.RemoteURL) {
		allErrs = append(allErrs, validatePullSecretHost(cache, path)...)
	}
	if !isNew && apiequality.Semantic.DeepEqual(pullSecret, old.PullSecret) {
		return allErrs
	}
	allErrs = append(allErrs, validateText(pullSecret.Name, maxPullSecretName, validation.IsDNS1123Subdomain, path.Child("name"))...)
	if len(pullSecret.Namespaces) == 0 && pullSecret.NamespaceSelector == nil {
		allErrs = append(allErrs, field.Required(path.Child("namespaces"),
			"must have at least one namespace, unless namespaceSelector is set; an empty selector, {}, selects all namespaces"))
	}
	allErrs = append(allErrs, validateNamespaces(pullSecret.Namespaces, path.Child("namespaces"))...)
	return append(allErrs, validateNamespaceSelector(pullSecret.NamespaceSelector, path.Child("namespaceSelector"))...)
}

// isPrivate reports whether a cache has a credential.
func isPrivate(cache *registry.RegistryCache) bool {
	return cache.SecretReferenceName != nil || len(cache.Credentials) > 0
}

// validatePullSecretHost refuses a remoteURL at another host: nodes and tools that do not know it would send the
// credential, which is for that host, to the upstream.
func validatePullSecretHost(cache *registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	derived := upstream.Upstream(cache.Upstream).DefaultRemoteURL()
	expected, err := upstream.ParseURL(derived)
	if err != nil {
		return nil // The upstream is refused.
	}
	remote, err := upstream.ParseURL(ptr.Deref(cache.RemoteURL, derived))
	if err != nil || remote.Hostname == expected.Hostname {
		return nil
	}
	return field.ErrorList{field.Forbidden(fldPath,
		fmt.Sprintf("a pull secret is for the host in image references, but the credential is for the host of remoteURL, which is not %s; remove this field, or remoteURL", expected.Hostname))}
}

func validateNamespaces(namespaces []string, fldPath *field.Path) field.ErrorList {
	if len(namespaces) > maxNamespaces {
		return field.ErrorList{field.TooMany(fldPath, len(namespaces), maxNamespaces)}
	}
	var allErrs field.ErrorList
	seen := sets.New[string]()
	for i, name := range namespaces {
		errs := validateText(name, validation.DNS1123LabelMaxLength, validation.IsDNS1123Label, fldPath.Index(i))
		if len(errs) == 0 && seen.Has(name) {
			errs = field.ErrorList{field.Duplicate(fldPath.Index(i), name)}
		}
		allErrs = append(allErrs, errs...)
		seen.Insert(name)
	}
	return allErrs
}

// validateText validates a text that an error quotes only if it is not too long.
func validateText(text string, maxLength int, validate func(string) []string, fldPath *field.Path) field.ErrorList {
	if len(text) > maxLength {
		return field.ErrorList{field.TooLong(fldPath, text, maxLength)}
	}
	var allErrs field.ErrorList
	for _, message := range validate(text) {
		allErrs = append(allErrs, field.Invalid(fldPath, text, message))
	}
	return allErrs
}

// validateNamespaceSelector bounds a selector before anything else looks at it.
func validateNamespaceSelector(selector *metav1.LabelSelector, fldPath *field.Path) field.ErrorList {
	if selector == nil {
		return nil
	}
	if count := len(selector.MatchLabels); count > maxSelectorTerms {
		return field.ErrorList{field.TooMany(fldPath.Child("matchLabels"), count, maxSelectorTerms)}
	}
	expressions := fldPath.Child("matchExpressions")
	if count := len(selector.MatchExpressions); count > maxSelectorTerms {
		return field.ErrorList{field.TooMany(expressions, count, maxSelectorTerms)}
	}
	var tooLong field.ErrorList
	labels := fldPath.Child("matchLabels")
	for _, key := range slices.Sorted(maps.Keys(selector.MatchLabels)) {
		switch {
		case len(key) > maxSelectorText:
			tooLong = append(tooLong, field.TooLong(labels.Key(key[:maxQuotedKey]+"..."), "", maxSelectorText))
		case len(selector.MatchLabels[key]) > maxSelectorText:
			tooLong = append(tooLong, field.TooLong(labels.Key(key), "", maxSelectorText))
		}
	}
	for i, expression := range selector.MatchExpressions {
		if count := len(expression.Values); count > maxSelectorValues {
			return field.ErrorList{field.TooMany(expressions.Index(i).Child("values"), count, maxSelectorValues)}
		}
		for _, text := range append([]string{expression.Key, string(expression.Operator)}, expression.Values...) {
			if len(text) > maxSelectorText {
				tooLong = append(tooLong, field.TooLong(expressions.Index(i), "", maxSelectorText))
				break
			}
		}
	}
	if len(tooLong) > 0 {
		return tooLong
	}
	return metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, fldPath)
}

// validatePullSecrets limits the number of pull secrets, and refuses different pull secrets with the same name, unless
// the old configuration has them.
func validatePullSecrets(newConfig, oldConfig *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	names, old := pullSecretsOf(newConfig), pullSecretsOf(oldConfig)
	if count := len(names); count > max(MaxPullSecrets, len(old)) {
		return field.ErrorList{field.Forbidden(fldPath,
			fmt.Sprintf("the caches have %d pull secrets with different names, at most %d are possible; let several caches share a name", count, MaxPullSecrets))}
	}
	oldCaches := byUpstream(oldConfig.Caches, func(cache *registry.RegistryCache) string { return cache.Upstream })
	var allErrs field.ErrorList
	for i := range newConfig.Caches {
		cache := &newConfig.Caches[i]
		if cache.PullSecret == nil {
			continue
		}
		first := names[cache.PullSecret.Name]
		if samePullSecret(first.PullSecret, cache.PullSecret) {
			continue
		}
		before, firstBefore := oldCaches[cache.Upstream], oldCaches[first.Upstream]
		if before != nil && firstBefore != nil && apiequality.Semantic.DeepEqual(before.PullSecret, cache.PullSecret) &&
			apiequality.Semantic.DeepEqual(firstBefore.PullSecret, first.PullSecret) {
			continue
		}
		allErrs = append(allErrs, field.Invalid(fldPath.Index(i).Child("pullSecret"), field.OmitValueType{},
			"differs from the pull secret with the same name of another cache; use the same fields, so that both share one Secret, or another name"))
	}
	return allErrs
}

// pullSecretsOf returns the first cache with each name of a pull secret.
func pullSecretsOf(config *registry.RegistryConfig) map[string]*registry.RegistryCache {
	first := map[string]*registry.RegistryCache{}
	for i := range config.Caches {
		cache := &config.Caches[i]
		if cache.PullSecret != nil && first[cache.PullSecret.Name] == nil {
			first[cache.PullSecret.Name] = cache
		}
	}
	return first
}

// samePullSecret compares pull secrets; the order of namespaces does not matter.
func samePullSecret(a, b *registry.PullSecret) bool {
	return a.AddToDefaultServiceAccounts == b.AddToDefaultServiceAccounts &&
		sets.New(a.Namespaces...).Equal(sets.New(b.Namespaces...)) &&
		apiequality.Semantic.DeepEqual(a.NamespaceSelector, b.NamespaceSelector)
}
