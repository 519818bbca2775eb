// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"fmt"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	"github.com/gardener/gardener/pkg/apis/core"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// Name is the name of the webhook.
	Name = "shoot"

	path = "/webhooks/validate-shoot"
)

// New returns the webhook for Shoots. Its registration by the library must be restricted with [Restrict].
func New(mgr manager.Manager) (*extensionswebhook.Webhook, error) {
	handler, err := NewHandler(admission.NewDecoder(mgr.GetScheme()), mgr.GetAPIReader())
	if err != nil {
		return nil, err
	}
	return &extensionswebhook.Webhook{
		Name:   Name,
		Action: extensionswebhook.ActionValidating,
		Path:   path,
		Target: extensionswebhook.TargetSeed,
		// The internal type covers all versions of Shoots, so that a future version cannot bypass the validation.
		Types:   []extensionswebhook.Type{{Obj: &core.Shoot{}}},
		Webhook: &admission.Webhook{Handler: handler, RecoverPanic: new(true)},
	}, nil
}

// Restrict limits the registration of the webhook to Shoots that use one of the extensions now or did so before, which
// no selector can express. It matches the labels that Gardener maintains on all Shoots.
func Restrict(webhook *admissionregistrationv1.ValidatingWebhook) {
	webhook.MatchConditions = []admissionregistrationv1.MatchCondition{{
		Name: "uses-an-extension",
		Expression: fmt.Sprintf("[object, oldObject].exists(o, o != null && has(o.metadata.labels) && ['%s', '%s'].exists(l, l in o.metadata.labels && o.metadata.labels[l] == 'true'))",
			v1beta1constants.LabelExtensionExtensionTypePrefix+registry.ExtensionType, v1beta1constants.LabelExtensionExtensionTypePrefix+mirror.ExtensionType),
	}}
}
