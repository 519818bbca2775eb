// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"encoding/json"
	"reflect"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

// usage is what a Shoot makes of the extension, as the controller would see it.
type usage struct {
	// fldPath is the path of the entry in spec.extensions.
	fldPath *field.Path
	// raw is the providerConfig, config is what it says; nil if it can't be decoded.
	raw    *runtime.RawExtension
	config *registry.RegistryConfig
	// references are the caches' references to their credentials.
	references []reference
	// workers are the Shoot's worker pools.
	workers []gardencorev1beta1.Worker
}

// reference is a cache's reference to its credentials, followed through spec.resources.
type reference struct {
	fldPath *field.Path
	// upstream tells which cache it is.
	upstream string
	// name is the name of the entry in spec.resources.
	name string
	// target is what the entry refers to; nil if there is no such entry.
	target *autoscalingv1.CrossVersionObjectReference
}

// usageOf returns nil if there is no Shoot, or if the Shoot does not use the extension.
func usageOf(shoot *gardencorev1beta1.Shoot, codec *codec.Codec) *usage {
	if shoot == nil {
		return nil
	}
	for i, extension := range shoot.Spec.Extensions {
		if extension.Type != registry.ExtensionType || ptr.Deref(extension.Disabled, false) {
			continue
		}
		result := &usage{
			fldPath: field.NewPath("spec", "extensions").Index(i),
			raw:     extension.ProviderConfig,
			workers: shoot.Spec.Provider.Workers,
		}
		if config, err := codec.DecodeConfig(extension.ProviderConfig); err == nil {
			result.config = config
			result.references = followReferences(config, shoot.Spec.Resources, result.configPath())
		}
		return result
	}
	return nil
}

func followReferences(config *registry.RegistryConfig, resources []gardencorev1beta1.NamedResourceReference, fldPath *field.Path) []reference {
	targets := make(map[string]*autoscalingv1.CrossVersionObjectReference, len(resources))
	for i := range resources {
		targets[resources[i].Name] = &resources[i].ResourceRef
	}
	var references []reference
	for i, cache := range config.Caches {
		// An empty name is no reference; the validation of the configuration refuses it.
		if name := ptr.Deref(cache.SecretReferenceName, ""); name != "" {
			references = append(references, reference{
				fldPath:  fldPath.Child("caches").Index(i).Child("secretReferenceName"),
				upstream: cache.Upstream,
				name:     name,
				target:   targets[name],
			})
		}
	}
	return references
}

func (u *usage) configPath() *field.Path {
	return u.fldPath.Child("providerConfig")
}

// sameConfig says whether both have the same providerConfig, however it is formatted.
func (u *usage) sameConfig(other *usage) bool {
	if u.raw == nil || other.raw == nil {
		return u.raw == other.raw
	}
	var a, b any
	if json.Unmarshal(u.raw.Raw, &a) != nil || json.Unmarshal(other.raw.Raw, &b) != nil {
		return string(u.raw.Raw) == string(other.raw.Raw)
	}
	return reflect.DeepEqual(a, b)
}

// isSecret says whether the reference leads to a Secret, be it there or not.
func (r reference) isSecret() bool {
	return r.target != nil && r.target.APIVersion == "v1" && r.target.Kind == "Secret"
}

// sameAs says whether both lead to the same object, or to the same nothing.
func (r reference) sameAs(other reference) bool {
	if r.target == nil && other.target == nil {
		return r.name == other.name
	}
	return ptr.Equal(r.target, other.target)
}
