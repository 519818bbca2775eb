// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"errors"
	"fmt"
	"regexp"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/apis/provider"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

// review validates the changes of a Shoot: its configuration, the Secrets that this references through spec.resources,
// and the workers.
type review struct {
	// now is nil if the Shoot does not use the extension. before is nil if the Shoot did not use the extension:
	// enabling it is validated like a new Shoot.
	now, before *usage.Usage
}

func newReview(shoot, oldShoot *gardencorev1beta1.Shoot, codec *codec.Codec) *review {
	return &review{now: usage.Of(shoot, codec), before: usage.Of(oldShoot, codec)}
}

// secretNames returns the names of the Secrets that the validation needs.
func (r *review) secretNames() []string {
	names := sets.New[string]()
	for _, reference := range r.changedReferences() {
		if reference.IsSecret() {
			names.Insert(reference.Target.Name)
		}
	}
	return sets.List(names)
}

// validateCount returns an error if there are too many caches to validate within the time of a review.
func (r *review) validateCount() field.ErrorList {
	if r.now == nil || r.now.Config == nil {
		return nil
	}
	return validation.ValidateCount(r.now.Config, r.configBefore(), r.now.ConfigPath())
}

// configBefore returns the old configuration. It is empty if there was none or if it cannot be decoded.
func (r *review) configBefore() *registry.RegistryConfig {
	if r.before == nil || r.before.Config == nil {
		return &registry.RegistryConfig{}
	}
	return r.before.Config
}

// validate returns all errors. It gets the validation errors of the Secrets in secretNames by name.
func (r *review) validate(secrets map[string]field.ErrorList) field.ErrorList {
	if r.now == nil {
		return nil
	}
	allErrs := r.validateConfig()
	allErrs = append(allErrs, r.validateReferences(secrets)...)
	return append(allErrs, r.validateWorkers()...)
}

func (r *review) validateConfig() field.ErrorList {
	fldPath := r.now.ConfigPath()
	if r.before != nil && r.now.SameConfig(r.before) {
		return nil
	}
	if r.now.Raw == nil {
		return field.ErrorList{field.Required(fldPath, "the extension needs a RegistryConfig with at least one cache")}
	}

	if r.now.Err != nil {
		return decodingErrors(r.now.Err, fldPath)
	}
	return append(strictErrors(r.now.StrictErr, fldPath), validation.ValidateRegistryConfigUpdate(r.now.Config, r.configBefore(), fldPath)...)
}

// decodingErrors returns the errors of a configuration that cannot be decoded.
func decodingErrors(err error, fldPath *field.Path) field.ErrorList {
	var invalid *provider.InvalidError
	if !errors.As(err, &invalid) {
		return field.ErrorList{field.Invalid(fldPath, field.OmitValueType{}, fmt.Sprintf("cannot be decoded as a RegistryConfig: %s", err))}
	}
	var allErrs field.ErrorList
	for _, err := range invalid.Errors {
		below := *err
		below.Field = fldPath.String()
		if err.Field != "" {
			below.Field = fldPath.Child(err.Field).String()
		}
		allErrs = append(allErrs, &below)
	}
	return allErrs
}

// fieldError matches the errors of strict decoding.
var fieldError = regexp.MustCompile(`^(unknown|duplicate) field "(.+)"$`)

// strictErrors returns the errors of strict decoding with their fields. The error may be nil.
func strictErrors(err error, fldPath *field.Path) field.ErrorList {
	strict, ok := runtime.AsStrictDecodingError(err)
	if !ok {
		return nil
	}
	var allErrs field.ErrorList
	for _, err := range strict.Errors() {
		if match := fieldError.FindStringSubmatch(err.Error()); match != nil {
			allErrs = append(allErrs, field.Forbidden(fldPath.Child(match[2]), match[1]+" field; remove it"))
			continue
		}
		allErrs = append(allErrs, field.Invalid(fldPath, field.OmitValueType{}, err.Error()))
	}
	return allErrs
}

// changedReferences returns the references that are new or now resolve to another object.
func (r *review) changedReferences() []usage.Reference {
	if r.now == nil {
		return nil
	}
	before := map[string]usage.Reference{}
	if r.before != nil {
		for _, reference := range r.before.References {
			before[reference.Upstream] = reference
		}
	}
	var changed []usage.Reference
	for _, reference := range r.now.References {
		if old, ok := before[reference.Upstream]; !ok || !reference.SameAs(old) {
			changed = append(changed, reference)
		}
	}
	return changed
}

func (r *review) validateReferences(secrets map[string]field.ErrorList) field.ErrorList {
	var allErrs field.ErrorList
	for _, reference := range r.changedReferences() {
		switch {
		case reference.Target == nil:
			allErrs = append(allErrs, field.Invalid(reference.Path, reference.Name,
				"there is no entry with this name in spec.resources; add one that references the Secret with the credential"))
		case !reference.IsSecret():
			allErrs = append(allErrs, field.Invalid(reference.Path, reference.Name,
				fmt.Sprintf("the entry in spec.resources must reference a Secret (v1), but references a %s (%s)", reference.Target.Kind, reference.Target.APIVersion)))
		default:
			for _, err := range secrets[reference.Target.Name] {
				here := *err
				here.Field = reference.Path.String()
				allErrs = append(allErrs, &here)
			}
		}
	}
	return allErrs
}

// validateSecret validates a Secret, which is nil if it does not exist. The errors have no field, since several caches
// may reference the Secret.
func validateSecret(secret *corev1.Secret, key client.ObjectKey) field.ErrorList {
	switch {
	case secret == nil:
		return field.ErrorList{field.Invalid(nil, key.String(), "the referenced Secret does not exist; create it first")}
	case secret.DeletionTimestamp != nil:
		// Finalizers only delay its deletion.
		return field.ErrorList{field.Invalid(nil, key.String(), "the referenced Secret is being deleted; create another one")}
	}
	return ownersecret.Validate(secret, nil)
}

// validateWorkers requires workers with containerd: other runtimes are not configured to use the caches.
func (r *review) validateWorkers() field.ErrorList {
	var before []gardencorev1beta1.Worker
	if r.before != nil {
		before = r.before.Workers
	}
	if len(r.now.Workers) == 0 && (r.before == nil || len(before) > 0) {
		return field.ErrorList{field.Forbidden(r.now.Path, "caches run on worker nodes, which this Shoot does not have; remove the extension")}
	}

	runtimes := make(map[string]gardencorev1beta1.CRIName, len(before))
	for _, worker := range before {
		runtimes[worker.Name] = runtimeOf(worker)
	}
	var allErrs field.ErrorList
	for i, worker := range r.now.Workers {
		if name := runtimeOf(worker); name != gardencorev1beta1.CRINameContainerD && name != runtimes[worker.Name] {
			fldPath := field.NewPath("spec", "provider", "workers").Index(i).Child("cri", "name")
			allErrs = append(allErrs, field.NotSupported(fldPath, name, []gardencorev1beta1.CRIName{gardencorev1beta1.CRINameContainerD}))
		}
	}
	return allErrs
}

// runtimeOf returns the container runtime of a worker pool; unset means containerd.
func runtimeOf(worker gardencorev1beta1.Worker) gardencorev1beta1.CRIName {
	if worker.CRI == nil || worker.CRI.Name == "" {
		return gardencorev1beta1.CRINameContainerD
	}
	return worker.CRI.Name
}
