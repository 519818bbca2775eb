// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package usage says what a Shoot makes of the registry-cache extension, as the
// controller would see it: the configuration, and the objects that it refers to
// through spec.resources.
package usage

import (
	"slices"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/provider"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

// Label is the label that Gardener keeps, with the value "true", on every Shoot
// that uses the extension.
const Label = v1beta1constants.LabelExtensionExtensionTypePrefix + registry.ExtensionType

// Usage is what a Shoot makes of the extension.
type Usage struct {
	// Path is the path of the entry in spec.extensions.
	Path *field.Path
	// Raw is the providerConfig. Config is what it says; nil if there is none, or
	// if it can't be decoded, for which Err is the reason. StrictErr lists unknown
	// and duplicate fields.
	Raw       *runtime.RawExtension
	Config    *registry.RegistryConfig
	Err       error
	StrictErr error
	// References are the caches' references to their credentials.
	References []Reference
	// Workers are the Shoot's worker pools.
	Workers []gardencorev1beta1.Worker
}

// Reference is a cache's reference to its credentials, followed through spec.resources.
type Reference struct {
	// Path is the path of the field that refers.
	Path *field.Path
	// Upstream tells which cache it is.
	Upstream string
	// Name is the name of the entry in spec.resources.
	Name string
	// Target is what the entry refers to; nil if there is no such entry.
	Target *autoscalingv1.CrossVersionObjectReference
}

// Of returns nil if there is no Shoot, or if the Shoot does not use the extension.
func Of(shoot *gardencorev1beta1.Shoot, codec *codec.Codec) *Usage {
	if shoot == nil {
		return nil
	}
	i := Find(shoot, registry.ExtensionType)
	if i < 0 {
		return nil
	}
	usage := &Usage{
		Path:    field.NewPath("spec", "extensions").Index(i),
		Raw:     shoot.Spec.Extensions[i].ProviderConfig,
		Workers: shoot.Spec.Provider.Workers,
	}
	if usage.Raw == nil {
		return usage
	}
	config, err := codec.DecodeConfigStrict(usage.Raw)
	if err != nil && !runtime.IsStrictDecodingError(err) {
		usage.Err = err
		return usage
	}
	usage.Config, usage.StrictErr = config, err
	usage.References = followReferences(config, shoot.Spec.Resources, usage.ConfigPath())
	return usage
}

// Find returns the place in spec.extensions of an extension that the Shoot
// uses, or -1 if it does not use it.
func Find(shoot *gardencorev1beta1.Shoot, extensionType string) int {
	return slices.IndexFunc(shoot.Spec.Extensions, func(extension gardencorev1beta1.Extension) bool {
		return extension.Type == extensionType && !ptr.Deref(extension.Disabled, false)
	})
}

func followReferences(config *registry.RegistryConfig, resources []gardencorev1beta1.NamedResourceReference, fldPath *field.Path) []Reference {
	targets := make(map[string]*autoscalingv1.CrossVersionObjectReference, len(resources))
	for i := range resources {
		targets[resources[i].Name] = &resources[i].ResourceRef
	}
	var references []Reference
	for i, cache := range config.Caches {
		// An empty name is no reference; the validation of the configuration refuses it.
		if name := ptr.Deref(cache.SecretReferenceName, ""); name != "" {
			references = append(references, Reference{
				Path:     fldPath.Child("caches").Index(i).Child("secretReferenceName"),
				Upstream: cache.Upstream,
				Name:     name,
				Target:   targets[name],
			})
		}
	}
	return references
}

// ConfigPath is the path of the providerConfig.
func (u *Usage) ConfigPath() *field.Path {
	return u.Path.Child("providerConfig")
}

// SameConfig says whether both have the same providerConfig, however it is formatted.
func (u *Usage) SameConfig(other *Usage) bool {
	if u.Raw == nil || other.Raw == nil {
		return u.Raw == other.Raw
	}
	return provider.Same(u.Raw.Raw, other.Raw.Raw)
}

// IsSecret says whether the reference leads to a Secret, be it there or not.
func (r Reference) IsSecret() bool {
	return r.Target != nil && IsSecret(*r.Target)
}

// SameAs says whether both lead to the same object, or to the same nothing.
func (r Reference) SameAs(other Reference) bool {
	if r.Target == nil && other.Target == nil {
		return r.Name == other.Name
	}
	return ptr.Equal(r.Target, other.Target)
}

// IsSecret says whether a reference in spec.resources is to a Secret.
func IsSecret(target autoscalingv1.CrossVersionObjectReference) bool {
	return target.APIVersion == "v1" && target.Kind == "Secret"
}
