// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/admission/usage"
)

// extension is a type of extension, regardless of its configuration.
type extension interface {
	review(shoot, oldShoot *gardencorev1beta1.Shoot) reviewer
}

// reviewer validates the use of one extension by a Shoot. It is pure: the handler reads the objects that it asks for.
type reviewer interface {
	// validateCount returns an error if the configuration is too large to validate within the time of a review.
	validateCount() field.ErrorList
	// secretNames returns the names of the Secrets that the validation needs.
	secretNames() []string
	// reviewSecret validates one of these Secrets, which is nil if it does not exist, for all references to it.
	reviewSecret(secret *corev1.Secret, key client.ObjectKey) finding
	// identityNames returns the names of the WorkloadIdentities that the validation needs.
	identityNames() []string
	// reviewIdentity validates one of these WorkloadIdentities, which is nil if it does not exist, for all references to it.
	reviewIdentity(identity *securityv1alpha1.WorkloadIdentity, key client.ObjectKey) finding
	// validate returns all errors but those of the Secrets and WorkloadIdentities.
	validate() field.ErrorList
	// upstreams returns the upstreams of the configuration with their fields, and those of the old configuration.
	upstreams() (now, before []located)
	// warnings returns warnings about valid but risky settings.
	warnings() []string
}

// finding is what is left of a referenced object after its validation.
type finding struct {
	errs field.ErrorList
	// warning is about a valid object, empty for none.
	warning string
}

// located is an upstream with its field.
type located struct {
	upstream string
	path     *field.Path
	// onlyForNodes is true for a cache to which nodes present a certificate.
	onlyForNodes bool
}

// rules are the rules for an extension that are not the same for all extensions. C is its configuration.
type rules[C any] struct {
	usage.Extension[C]
	// kind is the kind of the configuration.
	kind string
	// items is the field with the list that the configuration consists of.
	items string
	// validateCount and validateUpdate validate the changes of a configuration. The old one is empty if there was none.
	validateCount, validateUpdate func(config, oldConfig *C, configPath *field.Path) field.ErrorList
	// validateContent validates a Secret for each reference to it.
	validateContent func(secret *corev1.Secret, references []usage.Reference) field.ErrorList
	// warnAbout returns a warning about a valid Secret, or an empty text; may be nil.
	warnAbout func(secret *corev1.Secret, references []usage.Reference) string
	// validateIdentity validates a WorkloadIdentity for a reference to it. Nil means that only Secrets are allowed.
	validateIdentity func(identity *securityv1alpha1.WorkloadIdentity, reference usage.Reference) field.ErrorList
	// upstreams returns the upstreams of the configuration by index.
	upstreams func(config *C) []string
	// onlyForNodes reports whether nodes present a certificate for the upstream with an index; may be nil.
	onlyForNodes func(config *C, index int) bool
	// warnings are the warnings in their order.
	warnings []warning[C]
	// texts complete the errors.
	texts texts
}

// texts are parts of errors that name the subject.
type texts struct {
	// content is the minimum content of a configuration.
	content string
	// workerless explains why the extension needs workers.
	workerless string
}

func (r *rules[C]) review(shoot, oldShoot *gardencorev1beta1.Shoot) reviewer {
	review := &review[C]{rules: r, now: r.UsedBy(shoot), before: r.UsedBy(oldShoot)}
	review.changed = review.changedReferences()
	return review
}
