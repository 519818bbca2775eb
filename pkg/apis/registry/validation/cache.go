// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/address"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/upstream"
)

// maxServiceNameSuffixLength leaves room for "registry-" in a Service's name of at most 63 characters.
const maxServiceNameSuffixLength = 54

// maxVolumeSize is far above the limit of any infrastructure.
var maxVolumeSize = resource.MustParse("1Pi")

// validateCache validates the fields of a cache that differ from those of the old one, which is nil for a new cache.
func validateCache(cache, old *registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	if old == nil {
		old = &registry.RegistryCache{}
		allErrs = append(allErrs, address.ValidateUpstream(cache.Upstream, fldPath.Child("upstream"))...)
		allErrs = append(allErrs, validateStorageClassName(volumeOf(cache).StorageClassName, fldPath.Child("volume", "storageClassName"))...)
	} else {
		allErrs = append(allErrs, validateTransition(cache, old, fldPath)...)
	}

	// A derived URL is not from the owner, and the upstream is validated above.
	if derived := upstream.Upstream(cache.Upstream).DefaultRemoteURL(); ptr.Deref(cache.RemoteURL, derived) != derived {
		allErrs = append(allErrs, address.ValidateURL(cache.RemoteURL, old.RemoteURL, fldPath.Child("remoteURL"))...)
	}
	allErrs = append(allErrs, validateSize(volumeOf(cache).Size, volumeOf(old).Size, fldPath.Child("volume", "size"))...)
	allErrs = append(allErrs, validateTTL(ttlOf(cache), ttlOf(old), fldPath.Child("garbageCollection", "ttl"))...)
	allErrs = append(allErrs, validateCredentials(cache, old, fldPath)...)
	allErrs = append(allErrs, validateTagValidation(validationTimeoutOf(cache), validationTimeoutOf(old), fldPath.Child("tagValidation", "timeout"))...)
	allErrs = append(allErrs, validateServiceNameSuffix(cache.ServiceNameSuffix, old.ServiceNameSuffix, fldPath.Child("serviceNameSuffix"))...)
	allErrs = append(allErrs, validateConnection(cache, old, fldPath)...)
	allErrs = append(allErrs, validatePullSecret(cache, old, fldPath)...)
	return append(allErrs, validateAccess(cache, old, fldPath)...)
}

// validateTransition refuses changes that a running cache cannot apply.
func validateTransition(cache, old *registry.RegistryCache, fldPath *field.Path) field.ErrorList {
	const remedy = "to start over with an empty cache, remove this cache, wait until it is gone, and add it again in another update"
	var allErrs field.ErrorList

	volume, oldVolume, volumePath := volumeOf(cache), volumeOf(old), fldPath.Child("volume")
	if volume.Size != nil && oldVolume.Size != nil && volume.Size.Cmp(*oldVolume.Size) < 0 {
		allErrs = append(allErrs, field.Forbidden(volumePath.Child("size"),
			fmt.Sprintf("the size of a volume cannot be decreased, it is %s now; %s", oldVolume.Size, remedy)))
	}
	if !ptr.Equal(volume.StorageClassName, oldVolume.StorageClassName) {
		allErrs = append(allErrs, field.Forbidden(volumePath.Child("storageClassName"),
			fmt.Sprintf("the storage class of a volume cannot be changed, it is %s now; %s", orDefault(oldVolume.StorageClassName), remedy)))
	}
	ttl, oldTTL := ttlOf(cache), ttlOf(old)
	if ttl != nil && oldTTL != nil && ttl.Duration > 0 && oldTTL.Duration == 0 {
		allErrs = append(allErrs, field.Forbidden(fldPath.Child("garbageCollection", "ttl"),
			fmt.Sprintf("garbage collection cannot be enabled for a cache that runs without it, since its existing content would never be collected; %s", remedy)))
	}
	return allErrs
}

func validateStorageClassName(name *string, fldPath *field.Path) field.ErrorList {
	if name == nil {
		return nil
	}
	if len(*name) > validation.DNS1123SubdomainMaxLength {
		return field.ErrorList{field.TooLong(fldPath, *name, validation.DNS1123SubdomainMaxLength)}
	}
	var allErrs field.ErrorList
	for _, message := range validation.IsDNS1123Subdomain(*name) {
		allErrs = append(allErrs, field.Invalid(fldPath, *name, "must be the name of a StorageClass; leave it unset for the cluster's default: "+message))
	}
	return allErrs
}

// validateSize relies on the decoder, which refuses quantities that are expensive to compare.
func validateSize(size, old *resource.Quantity, fldPath *field.Path) field.ErrorList {
	if size == nil || old != nil && size.Cmp(*old) == 0 {
		return nil
	}
	switch {
	case size.Sign() <= 0:
		return field.ErrorList{field.Invalid(fldPath, size.String(), "must be greater than zero, for example 10Gi")}
	case size.Format == resource.DecimalExponent:
		return field.ErrorList{field.Invalid(fldPath, size.String(), "must be written without an exponent, for example 10Gi")}
	case size.Cmp(maxVolumeSize) > 0:
		return field.ErrorList{field.Invalid(fldPath, size.String(), "must be at most "+maxVolumeSize.String())}
	}
	return nil
}

func validateTTL(ttl, old *metav1.Duration, fldPath *field.Path) field.ErrorList {
	if ttl == nil || ptr.Equal(ttl, old) || ttl.Duration >= 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(fldPath, ttl.Duration.String(), "must not be negative; 0s disables garbage collection")}
}

// maxTagValidation is the longest time that a cache waits for the upstream, regardless of its configuration.
const maxTagValidation = 30 * time.Second

func validateTagValidation(timeout, old *metav1.Duration, fldPath *field.Path) field.ErrorList {
	if timeout == nil || ptr.Equal(timeout, old) || timeout.Duration >= 0 && timeout.Duration <= maxTagValidation {
		return nil
	}
	return field.ErrorList{field.Invalid(fldPath, timeout.Duration.String(),
		fmt.Sprintf("must be from 0s to %s; 0s serves a cached tag without waiting for the upstream", maxTagValidation))}
}

func validateServiceNameSuffix(suffix, old *string, fldPath *field.Path) field.ErrorList {
	if suffix == nil || ptr.Equal(suffix, old) {
		return nil
	}
	if len(*suffix) > maxServiceNameSuffixLength {
		return field.ErrorList{field.TooLong(fldPath, *suffix, maxServiceNameSuffixLength)}
	}
	var allErrs field.ErrorList
	for _, message := range validation.IsDNS1123Label(*suffix) {
		allErrs = append(allErrs, field.Invalid(fldPath, *suffix, message))
	}
	return allErrs
}

func volumeOf(cache *registry.RegistryCache) registry.Volume {
	return ptr.Deref(cache.Volume, registry.Volume{})
}

func ttlOf(cache *registry.RegistryCache) *metav1.Duration {
	return ptr.Deref(cache.GarbageCollection, registry.GarbageCollection{}).TTL
}

func validationTimeoutOf(cache *registry.RegistryCache) *metav1.Duration {
	return ptr.Deref(cache.TagValidation, registry.TagValidation{}).Timeout
}

func orDefault(storageClassName *string) string {
	if storageClassName == nil {
		return "the cluster's default"
	}
	return fmt.Sprintf("%q", *storageClassName)
}
