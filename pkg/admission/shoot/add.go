// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"fmt"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	"github.com/gardener/gardener/pkg/apis/core"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

const (
	// Name is the name of the webhook.
	Name = "shoot"

	path = "/webhooks/validate-shoot"
)

// New returns the webhook for Shoots that use the extension. It selects them by a label that Gardener maintains.
func New(mgr manager.Manager) (*extensionswebhook.Webhook, error) {
	codec, err := codec.New()
	if err != nil {
		return nil, fmt.Errorf("create codec: %w", err)
	}
	handler := NewHandler(admission.NewDecoder(mgr.GetScheme()), codec, mgr.GetAPIReader())
	return &extensionswebhook.Webhook{
		Name:   Name,
		Action: extensionswebhook.ActionValidating,
		Path:   path,
		Target: extensionswebhook.TargetSeed,
		// The internal type covers all versions of Shoots, so that a future version cannot bypass the validation.
		Types: []extensionswebhook.Type{{Obj: &core.Shoot{}}},
		ObjectSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{usage.Label: "true"},
		},
		Webhook: &admission.Webhook{Handler: handler, RecoverPanic: new(true)},
	}, nil
}
