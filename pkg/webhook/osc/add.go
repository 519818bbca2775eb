// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"fmt"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

// Name is the name of the webhook.
const Name = "operatingsystemconfig"

// New returns the webhook for OperatingSystemConfigs, served by the given manager.
func New(mgr manager.Manager) (*extensionswebhook.Webhook, error) {
	codec, err := codec.New()
	if err != nil {
		return nil, err
	}
	mutator := &Mutator{Reader: mgr.GetAPIReader(), Codec: codec}

	webhook, err := extensionswebhook.New(mgr, extensionswebhook.Args{
		Name:              Name,
		Path:              "/webhooks/" + Name,
		Target:            extensionswebhook.TargetSeed,
		NamespaceSelector: extensionswebhook.BuildExtensionTypeNamespaceSelector(registry.ExtensionType, nil),
		Mutators: map[extensionswebhook.Mutator][]extensionswebhook.Type{
			mutator: {{Obj: &extensionsv1alpha1.OperatingSystemConfig{}}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("create webhook %s: %w", Name, err)
	}
	return webhook, nil
}
