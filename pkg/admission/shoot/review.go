// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"errors"
	"fmt"
	"regexp"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/apis/provider"
	"github.com/larder-project/larder/pkg/reference"
)

// review validates what a Shoot resolves to for one extension: the configuration, the Secrets that it references
// through spec.resources, and the workers. It ignores what did not change.
type review[C any] struct {
	rules *rules[C]
	// now is nil if the Shoot does not use the extension. before is nil if it did not use it: enabling the extension is
	// validated like creating the Shoot.
	now, before *usage.Usage[C]
	// changed are the references that are new, or now resolve to another object or have another use.
	changed []usage.Reference
}

var _ reviewer = &review[any]{}

// secretNames returns the names of the Secrets that the update starts to use.
func (r *review[C]) secretNames() []string {
	names := sets.New[string]()
	for _, reference := range r.changed {
		if reference.IsSecret() {
			names.Insert(reference.Target.Name)
		}
	}
	return sets.List(names)
}

// identityNames returns the names of the WorkloadIdentities that the update starts to use.
func (r *review[C]) identityNames() []string {
	names := sets.New[string]()
	for _, reference := range r.changed {
		if r.allowsIdentity(reference) {
			names.Insert(reference.Target.Name)
		}
	}
	return sets.List(names)
}

// allowsIdentity reports whether a reference resolves to a WorkloadIdentity, in a place that allows them.
func (r *review[C]) allowsIdentity(reference usage.Reference) bool {
	return r.rules.validateIdentity != nil && reference.Purpose == usage.Credential && reference.IsWorkloadIdentity()
}

func (r *review[C]) validateCount() field.ErrorList {
	if r.now == nil || r.now.Config == nil {
		return nil
	}
	return r.rules.validateCount(r.now.Config, r.configBefore(), r.now.ConfigPath())
}

// configBefore returns the old configuration. It is empty if there was none or if it cannot be decoded.
func (r *review[C]) configBefore() *C {
	if r.before == nil || r.before.Config == nil {
		return new(C)
	}
	return r.before.Config
}

func (r *review[C]) validate() field.ErrorList {
	if r.now == nil {
		return nil
	}
	allErrs := r.validateConfig()
	allErrs = append(allErrs, r.validateReferences()...)
	return append(allErrs, r.validateWorkers()...)
}

func (r *review[C]) validateConfig() field.ErrorList {
	fldPath := r.now.ConfigPath()
	if r.before != nil && r.now.SameConfig(r.before) {
		return nil
	}
	if r.now.Raw == nil {
		return field.ErrorList{field.Required(fldPath, fmt.Sprintf("the extension needs a %s with %s", r.rules.kind, r.rules.texts.content))}
	}

	if r.now.Err != nil {
		return decodingErrors(r.now.Err, r.rules.kind, fldPath)
	}
	return append(strictErrors(r.now.StrictErr, fldPath), r.rules.validateUpdate(r.now.Config, r.configBefore(), fldPath)...)
}

// decodingErrors returns the errors of a configuration that cannot be decoded.
func decodingErrors(err error, kind string, fldPath *field.Path) field.ErrorList {
	var invalid *provider.InvalidError
	if !errors.As(err, &invalid) {
		return field.ErrorList{field.Invalid(fldPath, field.OmitValueType{}, fmt.Sprintf("cannot be decoded as a %s: %s", kind, err))}
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

// changedReferences returns the value of changed.
func (r *review[C]) changedReferences() []usage.Reference {
	if r.now == nil {
		return nil
	}
	before := map[string]usage.Reference{}
	if r.before != nil {
		for _, reference := range r.before.References {
			before[reference.Key] = reference
		}
	}
	var changed []usage.Reference
	for _, reference := range r.now.References {
		if old, ok := before[reference.Key]; !ok || !reference.SameAs(old) {
			changed = append(changed, reference)
		}
	}
	return changed
}

// validateReferences requires that the references resolve to Secrets or WorkloadIdentities, which reviewSecret and
// reviewIdentity validate.
func (r *review[C]) validateReferences() field.ErrorList {
	var allErrs field.ErrorList
	for _, reference := range r.changed {
		switch {
		case reference.Target == nil:
			allErrs = append(allErrs, field.Invalid(reference.Path, reference.Name,
				"there is no entry with this name in spec.resources; add one that references the Secret with the "+string(reference.Purpose)))
		case !reference.IsSecret() && !r.allowsIdentity(reference):
			allErrs = append(allErrs, field.Invalid(reference.Path, reference.Name,
				fmt.Sprintf("the entry in spec.resources must reference %s, but references a %s (%s)", r.kindsFor(reference), reference.Target.Kind, reference.Target.APIVersion)))
		}
	}
	return allErrs
}

// kindsFor returns the kinds of objects that a reference may resolve to.
func (r *review[C]) kindsFor(to usage.Reference) string {
	if r.rules.validateIdentity != nil && to.Purpose == usage.Credential {
		return reference.CredentialKinds
	}
	return reference.SecretKind
}

// reviewSecret validates a Secret for each changed reference to it. The result does not refer to the Secret, so that it
// need not stay in memory.
func (r *review[C]) reviewSecret(secret *corev1.Secret, key client.ObjectKey) finding {
	var references []usage.Reference
	for _, reference := range r.changed {
		if reference.IsSecret() && reference.Target.Name == key.Name {
			references = append(references, reference)
		}
	}
	problem := ""
	switch {
	case len(references) == 0:
		return finding{}
	case secret == nil:
		problem = "the referenced Secret does not exist; create it first"
	case secret.DeletionTimestamp != nil:
		// Finalizers only delay its deletion.
		problem = "the referenced Secret is being deleted; create another one"
	default:
		result := finding{errs: r.rules.validateContent(secret, references)}
		if len(result.errs) == 0 && r.rules.warnAbout != nil {
			result.warning = r.rules.warnAbout(secret, references)
		}
		return result
	}
	var result finding
	for _, reference := range references {
		result.errs = append(result.errs, field.Invalid(reference.Path, key.String(), problem))
	}
	return result
}

// reviewIdentity validates a WorkloadIdentity for each changed reference to it.
func (r *review[C]) reviewIdentity(identity *securityv1alpha1.WorkloadIdentity, key client.ObjectKey) finding {
	var result finding
	for _, reference := range r.changed {
		switch {
		case !r.allowsIdentity(reference) || reference.Target.Name != key.Name:
		case identity == nil:
			result.errs = append(result.errs, field.Invalid(reference.Path, key.String(), "the referenced WorkloadIdentity does not exist; create it first"))
		case identity.DeletionTimestamp != nil:
			result.errs = append(result.errs, field.Invalid(reference.Path, key.String(), "the referenced WorkloadIdentity is being deleted; create another one"))
		default:
			result.errs = append(result.errs, r.rules.validateIdentity(identity, reference)...)
		}
	}
	return result
}

func (r *review[C]) upstreams() (now, before []located) {
	return r.upstreamsOf(r.now), r.upstreamsOf(r.before)
}

func (r *review[C]) upstreamsOf(use *usage.Usage[C]) []located {
	if use == nil || use.Config == nil {
		return nil
	}
	names := r.rules.upstreams(use.Config)
	result := make([]located, len(names))
	for i, name := range names {
		result[i] = located{
			upstream: name, path: use.ConfigPath().Child(r.rules.items).Index(i).Child("upstream"),
			onlyForNodes: r.rules.onlyForNodes != nil && r.rules.onlyForNodes(use.Config, i),
		}
	}
	return result
}

// validateWorkers requires workers with containerd: other runtimes are not configured to use caches and mirrors.
func (r *review[C]) validateWorkers() field.ErrorList {
	var before []gardencorev1beta1.Worker
	if r.before != nil {
		before = r.before.Workers
	}
	if len(r.now.Workers) == 0 && (r.before == nil || len(before) > 0) {
		return field.ErrorList{field.Forbidden(r.now.Path, r.rules.texts.workerless+", which this Shoot does not have; remove the extension")}
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
