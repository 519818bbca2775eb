// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"fmt"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/limit"
)

const (
	// Name is the name of the webhook for objects with Gardener's finalizer.
	Name = "secret"
	// UnmarkedName is the name of the webhook for objects without it.
	UnmarkedName = "secret-unmarked"

	path         = "/webhooks/protect-secret"
	unmarkedPath = "/webhooks/protect-unmarked-secret"

	// maxReviews bounds the memory for pages of Shoots, for each webhook, and maxShare how many of them one namespace
	// can have.
	maxReviews, maxShare = 2, 1
)

// marked is true for objects that Gardener protects.
var marked = fmt.Sprintf("has(oldObject.metadata.finalizers) && oldObject.metadata.finalizers.exists(f, f == '%s')",
	v1beta1constants.ReferenceProtectionFinalizerName)

// New returns the webhook for Secrets and WorkloadIdentities with Gardener's finalizer. Its registration by the library
// must be restricted with [Restrict].
func New(mgr manager.Manager) (*extensionswebhook.Webhook, error) {
	return newWebhook(mgr, Name, path)
}

// NewUnmarked returns the webhook for Secrets and WorkloadIdentities without Gardener's finalizer. Its registration by
// the library must be restricted with [RestrictUnmarked].
func NewUnmarked(mgr manager.Manager) (*extensionswebhook.Webhook, error) {
	webhook, err := newWebhook(mgr, UnmarkedName, unmarkedPath)
	if err != nil {
		return nil, err
	}
	webhook.FailurePolicy = new(admissionregistrationv1.Ignore)
	webhook.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{
		v1beta1constants.GardenRole: v1beta1constants.GardenRoleProject,
	}}
	return webhook, nil
}

func newWebhook(mgr manager.Manager, name, path string) (*extensionswebhook.Webhook, error) {
	caches, err := usage.Caches()
	if err != nil {
		return nil, err
	}
	mirrors, err := usage.Mirrors()
	if err != nil {
		return nil, err
	}
	handler := &Handler{
		Reader:     mgr.GetAPIReader(),
		Extensions: []Extension{ExtensionOf(caches), ExtensionOf(mirrors)},
		Slots:      limit.New(maxReviews),
		Shares:     limit.NewShares[string](maxShare),
	}
	return &extensionswebhook.Webhook{
		Name:    name,
		Action:  extensionswebhook.ActionValidating,
		Path:    path,
		Target:  extensionswebhook.TargetSeed,
		Types:   []extensionswebhook.Type{{Obj: &corev1.Secret{}}, {Obj: &securityv1alpha1.WorkloadIdentity{}}},
		Webhook: &admission.Webhook{Handler: handler, RecoverPanic: new(true)},
	}, nil
}

// Restrict limits the registration of the webhook to the deletion of objects with Gardener's finalizer, which the
// library cannot express.
func Restrict(webhook *admissionregistrationv1.ValidatingWebhook) {
	restrict(webhook, admissionregistrationv1.MatchCondition{Name: "protected-by-gardener", Expression: marked})
}

// RestrictUnmarked limits the registration of the webhook to the deletion of objects without Gardener's finalizer that
// a Shoot could use: Secrets must be immutable.
func RestrictUnmarked(webhook *admissionregistrationv1.ValidatingWebhook) {
	restrict(webhook,
		admissionregistrationv1.MatchCondition{Name: "not-protected-by-gardener", Expression: "!(" + marked + ")"},
		admissionregistrationv1.MatchCondition{
			Name:       "immutable",
			Expression: "request.kind.kind != 'Secret' || has(oldObject.immutable) && oldObject.immutable",
		})
}

func restrict(webhook *admissionregistrationv1.ValidatingWebhook, conditions ...admissionregistrationv1.MatchCondition) {
	for i := range webhook.Rules {
		webhook.Rules[i].Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.Delete}
		webhook.Rules[i].Scope = new(admissionregistrationv1.NamespacedScope)
	}
	webhook.MatchConditions = conditions
}
