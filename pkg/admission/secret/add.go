// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"fmt"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	"golang.org/x/sync/semaphore"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/admission/usage"
)

const (
	// Name is the name of the webhook.
	Name = "secret"

	path = "/webhooks/protect-secret"

	// maxConcurrentReviews bounds the memory for pages of Shoots.
	maxConcurrentReviews = 2
)

// New returns the webhook for Secrets and WorkloadIdentities. Its registration by the library must be restricted with [Restrict].
func New(mgr manager.Manager) (*extensionswebhook.Webhook, error) {
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
		Slots:      semaphore.NewWeighted(maxConcurrentReviews),
	}
	return &extensionswebhook.Webhook{
		Name:    Name,
		Action:  extensionswebhook.ActionValidating,
		Path:    path,
		Target:  extensionswebhook.TargetSeed,
		Types:   []extensionswebhook.Type{{Obj: &corev1.Secret{}}, {Obj: &securityv1alpha1.WorkloadIdentity{}}},
		Webhook: &admission.Webhook{Handler: handler, RecoverPanic: new(true)},
	}, nil
}

// Restrict limits the registration of the webhook to the deletion of protected objects, which the library cannot express.
func Restrict(webhook *admissionregistrationv1.ValidatingWebhook) {
	for i := range webhook.Rules {
		webhook.Rules[i].Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.Delete}
		webhook.Rules[i].Scope = new(admissionregistrationv1.NamespacedScope)
	}
	webhook.MatchConditions = []admissionregistrationv1.MatchCondition{{
		Name: "protected-by-gardener",
		Expression: fmt.Sprintf("has(oldObject.metadata.finalizers) && oldObject.metadata.finalizers.exists(f, f == '%s')",
			v1beta1constants.ReferenceProtectionFinalizerName),
	}}
}
