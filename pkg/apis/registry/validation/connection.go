// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/address"
	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// MaxConnectionSecrets is the maximum number of different CA bundles, of different client certificates, and of
	// different credentials for proxies in a configuration. The ManagedResource contains all of them.
	MaxConnectionSecrets = 10

	maxAllowedRealms = 10
	maxNoProxy       = 50

	minFirstByte = time.Second
	maxFirstByte = 10 * time.Minute
)

// validateConnectionSecrets limits the number of different Secrets for each purpose, unless there were as many before.
func validateConnectionSecrets(newConfig, oldConfig *registry.RegistryConfig, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	for _, purpose := range registry.ConnectionPurposes() {
		if count := countEntries(newConfig, purpose); count > max(MaxConnectionSecrets, countEntries(oldConfig, purpose)) {
			allErrs = append(allErrs, field.Forbidden(fldPath,
				fmt.Sprintf("the caches reference %d Secrets in %s, at most %d are possible; let several caches share an entry of spec.resources",
					count, purpose.Path(nil), MaxConnectionSecrets)))
		}
	}
	return allErrs
}

func countEntries(config *registry.RegistryConfig, purpose registry.ConnectionPurpose) int {
	names := sets.New[string]()
	for i := range config.Caches {
		if name := purpose.Entry(&config.Caches[i]); name != nil {
			names.Insert(*name)
		}
	}
	return len(names)
}

// validateConnection validates how a cache connects to its upstream.
func validateConnection(cache, old *registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	for _, purpose := range registry.ConnectionPurposes() {
		allErrs = append(allErrs, validateReference(purpose.Entry(cache), purpose.Entry(old), "leave it unset to use none", purpose.Path(fldPath))...)
	}
	allErrs = append(allErrs, validateClientCertificate(cache, old, fldPath.Child("clientCertificateSecretReferenceName"))...)
	allErrs = append(allErrs, validateList(cache.AllowedRealms, old.AllowedRealms, maxAllowedRealms, address.ValidateRealm, fldPath.Child("allowedRealms"))...)
	allErrs = append(allErrs, validateFirstByte(firstByteOf(cache), firstByteOf(old), fldPath.Child("timeouts", "firstByte"))...)
	return append(allErrs, validateProxy(proxyOf(cache), proxyOf(old), fldPath.Child("proxy"))...)
}

// validateClientCertificate refuses a certificate that the registry would never see: it is part of TLS.
func validateClientCertificate(cache, old *registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	if !identifiesInPlain(cache) || identifiesInPlain(old) {
		return nil
	}
	return field.ErrorList{field.Forbidden(fldPath, "a client certificate is presented over HTTPS only, but remoteURL begins with http://; use https://, or remove the client certificate")}
}

func identifiesInPlain(cache *registry.RegistryCache) bool {
	return cache.ClientCertificateSecretReferenceName != nil && strings.HasPrefix(ptr.Deref(cache.RemoteURL, ""), "http://")
}

func validateProxy(proxy, old registry.Proxy, fldPath *field.Path) field.ErrorList {
	allErrs := address.ValidateProxyURL(proxy.HTTPProxy, old.HTTPProxy, fldPath.Child("httpProxy"))
	allErrs = append(allErrs, address.ValidateProxyURL(proxy.HTTPSProxy, old.HTTPSProxy, fldPath.Child("httpsProxy"))...)
	allErrs = append(allErrs, validateList(proxy.NoProxy, old.NoProxy, maxNoProxy, address.ValidateNoProxy, fldPath.Child("noProxy"))...)

	if hasProxy := proxy.HTTPProxy != nil || proxy.HTTPSProxy != nil; hasProxy {
		return allErrs
	}
	hadProxy := old.HTTPProxy != nil || old.HTTPSProxy != nil
	if len(proxy.NoProxy) > 0 && (hadProxy || len(old.NoProxy) == 0) {
		allErrs = append(allErrs, field.Forbidden(fldPath.Child("noProxy"), "there is no proxy to bypass; set httpProxy or httpsProxy, or remove noProxy"))
	}
	if proxy.SecretReferenceName != nil && (hadProxy || old.SecretReferenceName == nil) {
		allErrs = append(allErrs, field.Forbidden(fldPath.Child("secretReferenceName"), "there is no proxy for the credential; set httpProxy or httpsProxy, or remove secretReferenceName"))
	}
	return allErrs
}

// validateList validates the entries that a list did not have before.
func validateList(values, old []string, limit int, validate func(string, *field.Path) field.ErrorList, fldPath *field.Path) field.ErrorList {
	if slices.Equal(values, old) {
		return nil
	}
	if len(values) > max(limit, len(old)) {
		return field.ErrorList{field.TooMany(fldPath, len(values), limit)}
	}
	var (
		allErrs field.ErrorList
		seen    = sets.New[string]()
	)
	for i, value := range values {
		switch {
		case seen.Has(value):
			allErrs = append(allErrs, address.Duplicate(fldPath.Index(i), value))
		case !slices.Contains(old, value):
			allErrs = append(allErrs, validate(value, fldPath.Index(i))...)
		}
		seen.Insert(value)
	}
	return allErrs
}

func validateFirstByte(timeout, old *metav1.Duration, fldPath *field.Path) field.ErrorList {
	if timeout == nil || ptr.Equal(timeout, old) || timeout.Duration >= minFirstByte && timeout.Duration <= maxFirstByte {
		return nil
	}
	return field.ErrorList{field.Invalid(fldPath, timeout.Duration.String(), fmt.Sprintf("must be from %s to %s", minFirstByte, maxFirstByte))}
}

func proxyOf(cache *registry.RegistryCache) registry.Proxy {
	return ptr.Deref(cache.Proxy, registry.Proxy{})
}

func firstByteOf(cache *registry.RegistryCache) *metav1.Duration {
	return ptr.Deref(cache.Timeouts, registry.Timeouts{}).FirstByte
}
