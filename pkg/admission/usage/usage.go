// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package usage extracts the use of the extensions registry-cache and registry-mirror from a Shoot, as their
// controllers see it: the configuration and the objects that it references through spec.resources.
package usage

import (
	"slices"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/provider"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
	"github.com/larder-project/larder/pkg/reference"
)

// Extension is a type of extension, whose providerConfig is a C.
type Extension[C any] struct {
	// Type is the type by which a Shoot references the extension.
	Type string
	// Decode decodes a providerConfig. For unknown and duplicate fields it returns an error that
	// [runtime.IsStrictDecodingError] recognizes, together with the content.
	Decode func(raw *runtime.RawExtension) (*C, error)
	// References returns the references of a configuration to entries of spec.resources, without their targets. It omits
	// empty names, which the validation of the configuration refuses.
	References func(config *C, configPath *field.Path) []Reference
}

// Usage is the use of an extension by a Shoot.
type Usage[C any] struct {
	// Path is the path of the entry in spec.extensions.
	Path *field.Path
	// Raw is the providerConfig and Config its content. Config is nil if there is no providerConfig or if it cannot be
	// decoded, which Err explains. StrictErr lists unknown and duplicate fields.
	Raw       *runtime.RawExtension
	Config    *C
	Err       error
	StrictErr error
	// References are the references of the configuration to Secrets.
	References []Reference
	// Workers are the worker pools of the Shoot.
	Workers []gardencorev1beta1.Worker
}

// Reference is a reference to a Secret, resolved through spec.resources.
type Reference struct {
	// Path is the path of the referencing field.
	Path *field.Path
	// Key identifies the referencing part of the configuration, so that it can be compared with an older one.
	Key string
	// Purpose is what the Secret is for.
	Purpose Purpose
	// Name is the name of the entry in spec.resources.
	Name string
	// Use is what a cache uses the Secret for.
	Use ownersecret.Use
	// Target is the referenced object; nil if there is no such entry.
	Target *autoscalingv1.CrossVersionObjectReference
}

// Purpose is what a configuration uses a Secret for. It reads well after "the" in an error.
type Purpose string

// The purposes of Secrets.
const (
	Credential        Purpose = "credential"
	CABundle                  = Purpose(registry.CABundle)
	ClientCertificate         = Purpose(registry.ClientCertificate)
	ProxyCredential           = Purpose(registry.ProxyCredential)
)

// Label is the label that Gardener maintains, with the value "true", on every Shoot that uses the extension.
func (e Extension[C]) Label() string {
	return v1beta1constants.LabelExtensionExtensionTypePrefix + e.Type
}

// UsedBy returns the use of the extension by a Shoot. It returns nil if the Shoot is nil or does not use the extension.
func (e Extension[C]) UsedBy(shoot *gardencorev1beta1.Shoot) *Usage[C] {
	if shoot == nil {
		return nil
	}
	i := slices.IndexFunc(shoot.Spec.Extensions, func(extension gardencorev1beta1.Extension) bool {
		return extension.Type == e.Type && !ptr.Deref(extension.Disabled, false)
	})
	if i < 0 {
		return nil
	}
	usage := &Usage[C]{
		Path:    field.NewPath("spec", "extensions").Index(i),
		Raw:     shoot.Spec.Extensions[i].ProviderConfig,
		Workers: shoot.Spec.Provider.Workers,
	}
	if usage.Raw == nil {
		return usage
	}
	config, err := e.Decode(usage.Raw)
	if err != nil && !runtime.IsStrictDecodingError(err) {
		usage.Err = err
		return usage
	}
	usage.Config, usage.StrictErr = config, err
	usage.References = resolve(e.References(config, usage.ConfigPath()), shoot.Spec.Resources)
	return usage
}

// resolve adds the targets of references.
func resolve(references []Reference, resources []gardencorev1beta1.NamedResourceReference) []Reference {
	targets := make(map[string]*autoscalingv1.CrossVersionObjectReference, len(resources))
	for i := range resources {
		targets[resources[i].Name] = &resources[i].ResourceRef
	}
	for i := range references {
		references[i].Target = targets[references[i].Name]
	}
	return references
}

// ConfigPath is the path of the providerConfig.
func (u *Usage[C]) ConfigPath() *field.Path {
	return u.Path.Child("providerConfig")
}

// SameConfig reports whether both have the same providerConfig, regardless of its formatting.
func (u *Usage[C]) SameConfig(other *Usage[C]) bool {
	if u.Raw == nil || other.Raw == nil {
		return u.Raw == other.Raw
	}
	return provider.Same(u.Raw.Raw, other.Raw.Raw)
}

// IsSecret reports whether the reference resolves to a Secret, which need not exist.
func (r Reference) IsSecret() bool {
	return r.Target != nil && IsSecret(*r.Target)
}

// SameAs reports whether both resolve to the same object for the same use, or are dangling references with the same
// name.
func (r Reference) SameAs(other Reference) bool {
	if !r.Use.Same(other.Use) {
		return false
	}
	if r.Target == nil && other.Target == nil {
		return r.Name == other.Name
	}
	return ptr.Equal(r.Target, other.Target)
}

// IsSecret reports whether an entry of spec.resources references a Secret.
func IsSecret(target autoscalingv1.CrossVersionObjectReference) bool {
	return target.APIVersion == "v1" && target.Kind == "Secret"
}

// IsWorkloadIdentity reports whether the reference resolves to a WorkloadIdentity, which need not exist.
func (r Reference) IsWorkloadIdentity() bool {
	return r.Target != nil && IsWorkloadIdentity(*r.Target)
}

// IsWorkloadIdentity reports whether an entry of spec.resources references a WorkloadIdentity.
func IsWorkloadIdentity(target autoscalingv1.CrossVersionObjectReference) bool {
	return target.APIVersion == securityv1alpha1.SchemeGroupVersion.String() && target.Kind == reference.WorkloadIdentityKind
}
