// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package validation validates a MirrorConfig. It is pure: checks that need other objects, such as the referenced
// Secrets, are part of admission.
//
// The validation of an update covers only what the update changes: rules may be newer than the configurations of
// running clusters.
package validation

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/address"
	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/upstream"
)

// Mirrors and CA bundles become part of the OperatingSystemConfig of each worker pool, which is stored in one Secret of
// at most 1 MiB.
const (
	// MaxMirrors is the maximum number of mirrors in a configuration.
	MaxMirrors = 100
	// MaxHosts is the maximum number of hosts of a mirror. A pull may have to wait for each of them.
	MaxHosts = 5
	// MaxCABundles is the maximum number of different CA bundles in a configuration.
	MaxCABundles = 10
)

var capabilities = []mirror.Capability{mirror.Pull, mirror.Resolve}

// ValidateCount returns an error if there are more mirrors, hosts or CA bundles than allowed and more than before. Call
// it first: all other checks take time for each host, and each CA bundle has to be read.
func ValidateCount(newConfig, oldConfig *mirror.MirrorConfig, fldPath *field.Path) field.ErrorList {
	mirrorsPath := fldPath.Child("mirrors")
	if count := len(newConfig.Mirrors); count > max(MaxMirrors, len(oldConfig.Mirrors)) {
		return field.ErrorList{field.TooMany(mirrorsPath, count, MaxMirrors)}
	}
	var (
		allErrs field.ErrorList
		old     = groupBy(oldConfig.Mirrors, upstreamOf)
	)
	for i, m := range newConfig.Mirrors {
		before, _ := take(old, m.Upstream)
		if count := len(m.Hosts); count > max(MaxHosts, len(before.Hosts)) {
			allErrs = append(allErrs, field.TooMany(mirrorsPath.Index(i).Child("hosts"), count, MaxHosts))
		}
	}
	return append(allErrs, validateCABundles(newConfig, oldConfig, mirrorsPath)...)
}

// ValidateMirrorConfig validates a new configuration.
func ValidateMirrorConfig(config *mirror.MirrorConfig, fldPath *field.Path) field.ErrorList {
	return ValidateMirrorConfigUpdate(config, &mirror.MirrorConfig{}, fldPath)
}

// ValidateMirrorConfigUpdate validates the changes from the old to the new configuration. It does not validate what did
// not change, so call it instead of ValidateMirrorConfig, not in addition. Mirrors are identified by their upstream,
// and hosts by their URL.
func ValidateMirrorConfigUpdate(newConfig, oldConfig *mirror.MirrorConfig, fldPath *field.Path) field.ErrorList {
	if errs := ValidateCount(newConfig, oldConfig, fldPath); len(errs) > 0 {
		return errs
	}
	var (
		allErrs     field.ErrorList
		mirrorsPath = fldPath.Child("mirrors")
		old         = groupBy(oldConfig.Mirrors, upstreamOf)
		occurrences = countBy(oldConfig.Mirrors, upstreamOf)
		seen        = map[string]int{}
	)
	if len(newConfig.Mirrors) == 0 {
		allErrs = append(allErrs, field.Required(mirrorsPath, "must have at least one mirror; to use no mirrors, remove the extension from the Shoot"))
	}
	for i, m := range newConfig.Mirrors {
		mirrorPath := mirrorsPath.Index(i)
		before, existed := take(old, m.Upstream)
		if !existed {
			allErrs = append(allErrs, address.ValidateUpstream(m.Upstream, mirrorPath.Child("upstream"))...)
		}
		if seen[m.Upstream]++; seen[m.Upstream] > max(1, occurrences[m.Upstream]) {
			allErrs = append(allErrs, address.Duplicate(mirrorPath.Child("upstream"), m.Upstream))
		}
		allErrs = append(allErrs, validateHosts(m.Hosts, before.Hosts, existed, mirrorPath.Child("hosts"))...)
	}
	return allErrs
}

// validateHosts validates the hosts of a mirror. Existed is false for a new mirror.
func validateHosts(hosts, oldHosts []mirror.Host, existed bool, fldPath *field.Path) field.ErrorList {
	var (
		allErrs     field.ErrorList
		old         = groupBy(oldHosts, func(host mirror.Host) string { return host.Host })
		occurrences = countBy(oldHosts, key)
		seen        = map[string]int{}
	)
	if len(hosts) == 0 && (!existed || len(oldHosts) > 0) {
		allErrs = append(allErrs, field.Required(fldPath, "must have at least one host; to pull from the upstream, remove the mirror"))
	}
	for i, host := range hosts {
		hostPath := fldPath.Index(i)
		before, existed := take(old, host.Host)
		if !existed {
			allErrs = append(allErrs, address.ValidateMirrorURL(host.Host, hostPath.Child("host"))...)
		}
		if k := key(host); host.Host != "" {
			if seen[k]++; seen[k] > max(1, occurrences[k]) {
				allErrs = append(allErrs, address.Duplicate(hostPath.Child("host"), host.Host))
			}
		}
		if !existed || !slices.Equal(host.Capabilities, before.Capabilities) {
			allErrs = append(allErrs, validateCapabilities(host.Capabilities, hostPath.Child("capabilities"))...)
		}
		if name := host.CABundleSecretReferenceName; name != nil && *name == "" && !ptr.Equal(name, before.CABundleSecretReferenceName) {
			allErrs = append(allErrs, field.Invalid(hostPath.Child("caBundleSecretReferenceName"), *name,
				"must be the name of an entry in spec.resources; leave it unset for a mirror with a certificate of a public CA"))
		}
	}
	return allErrs
}

// key is equal for hosts with which nodes would reach the same mirror.
func key(host mirror.Host) string {
	url, err := upstream.ParseMirrorURL(host.Host)
	if err != nil {
		return host.Host
	}
	return url.Key()
}

func validateCapabilities(values []mirror.Capability, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	seen := sets.New[mirror.Capability]()
	for i, value := range values {
		switch {
		case !slices.Contains(capabilities, value):
			allErrs = append(allErrs, field.NotSupported(fldPath.Index(i), string(value), capabilities))
		case seen.Has(value):
			allErrs = append(allErrs, field.Duplicate(fldPath.Index(i), string(value)))
		}
		seen.Insert(value)
	}
	return allErrs
}

// validateCABundles limits the number of different CA bundles, unless there were as many before.
func validateCABundles(newConfig, oldConfig *mirror.MirrorConfig, fldPath *field.Path) field.ErrorList {
	if count := countCABundles(newConfig); count > max(MaxCABundles, countCABundles(oldConfig)) {
		return field.ErrorList{field.Forbidden(fldPath,
			fmt.Sprintf("the hosts reference %d CA bundles, at most %d are possible; put the certificates of several mirrors into one bundle", count, MaxCABundles))}
	}
	return nil
}

func countCABundles(config *mirror.MirrorConfig) int {
	names := sets.New[string]()
	for _, m := range config.Mirrors {
		for _, host := range m.Hosts {
			if name := host.CABundleSecretReferenceName; name != nil {
				names.Insert(*name)
			}
		}
	}
	return len(names)
}

func upstreamOf(m mirror.Mirror) string { return m.Upstream }

// groupBy returns the values with the same key in their order.
func groupBy[T any](values []T, keyOf func(T) string) map[string][]T {
	result := make(map[string][]T, len(values))
	for _, value := range values {
		result[keyOf(value)] = append(result[keyOf(value)], value)
	}
	return result
}

// take returns the first value with a key and removes it unless it is the last one. So duplicates, which an older
// configuration may have, are compared in their order.
func take[T any](values map[string][]T, key string) (value T, ok bool) {
	group := values[key]
	if len(group) == 0 {
		return value, false
	}
	if len(group) > 1 {
		values[key] = group[1:]
	}
	return group[0], true
}

func countBy[T any](values []T, keyOf func(T) string) map[string]int {
	result := make(map[string]int, len(values))
	for _, value := range values {
		result[keyOf(value)]++
	}
	return result
}
