// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package usage extracts the use of the registry-cache extension from a Shoot, as the controller sees it: the
// configuration and the objects that it references through spec.resources.
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

// Label is the label that Gardener maintains, with the value "true", on every Shoot that uses the extension.
const Label = v1beta1constants.LabelExtensionExtensionTypePrefix + registry.ExtensionType

// Usage is the use of the extension by a Shoot.
type Usage struct {
	// Path is the path of the entry in spec.extensions.
	Path *field.Path
	// Raw is the providerConfig and Config its content. Config is nil if there is no providerConfig or if it cannot be
	// decoded, which Err explains. StrictErr lists unknown and duplicate fields.
	Raw       *runtime.RawExtension
	Config    *registry.RegistryConfig
	Err       error
	StrictErr error
	// References are the references of the caches to their credentials.
	References []Reference
	// Workers are the worker pools of the Shoot.
	Workers []gardencorev1beta1.Worker
}

// Reference is the reference of a cache to its credential, resolved through spec.resources.
type Reference struct {
	// Path is the path of the referencing field.
	Path *field.Path
	// Upstream identifies the cache.
	Upstream string
	// Name is the name of the entry in spec.resources.
	Name string
	// Target is the referenced object; nil if there is no such entry.
	Target *autoscalingv1.CrossVersionObjectReference
}

// Of returns the use of the extension by a Shoot. It returns nil if the Shoot is nil or does not use the extension.
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

// Find returns the index in spec.extensions of an enabled extension, or -1.
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
		// The validation of the configuration refuses an empty name.
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

// SameConfig reports whether both have the same providerConfig, regardless of its formatting.
func (u *Usage) SameConfig(other *Usage) bool {
	if u.Raw == nil || other.Raw == nil {
		return u.Raw == other.Raw
	}
	return provider.Same(u.Raw.Raw, other.Raw.Raw)
}

// IsSecret reports whether the reference resolves to a Secret, which need not exist.
func (r Reference) IsSecret() bool {
	return r.Target != nil && IsSecret(*r.Target)
}

// SameAs reports whether both resolve to the same object, or are dangling references with the same name.
func (r Reference) SameAs(other Reference) bool {
	if r.Target == nil && other.Target == nil {
		return r.Name == other.Name
	}
	return ptr.Equal(r.Target, other.Target)
}

// IsSecret reports whether an entry of spec.resources references a Secret.
func IsSecret(target autoscalingv1.CrossVersionObjectReference) bool {
	return target.APIVersion == "v1" && target.Kind == "Secret"
}
