// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"fmt"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	mirrorcodec "github.com/larder-project/larder/pkg/apis/mirror/codec"
	registrycodec "github.com/larder-project/larder/pkg/apis/registry/codec"
)

const (
	// CachesName is the name of the webhook for caches.
	CachesName = "operatingsystemconfig"
	// MirrorsName is the name of the webhook for mirrors.
	MirrorsName = "operatingsystemconfig-mirrors"
)

// NewForCaches returns the webhook that adds caches to OperatingSystemConfigs, served by the given manager.
func NewForCaches(mgr manager.Manager) (*extensionswebhook.Webhook, error) {
	codec, err := registrycodec.New()
	if err != nil {
		return nil, err
	}
	return newWebhook(mgr, CachesName, Caches{Codec: codec})
}

// NewForMirrors returns the webhook that adds mirrors to OperatingSystemConfigs, served by the given manager.
func NewForMirrors(mgr manager.Manager) (*extensionswebhook.Webhook, error) {
	codec, err := mirrorcodec.New()
	if err != nil {
		return nil, err
	}
	return newWebhook(mgr, MirrorsName, Mirrors{Codec: codec})
}

func newWebhook(mgr manager.Manager, name string, source Source) (*extensionswebhook.Webhook, error) {
	mutator := &Mutator{Reader: mgr.GetAPIReader(), Source: source}
	webhook, err := extensionswebhook.New(mgr, extensionswebhook.Args{
		Name:              name,
		Path:              "/webhooks/" + name,
		Target:            extensionswebhook.TargetSeed,
		NamespaceSelector: extensionswebhook.BuildExtensionTypeNamespaceSelector(source.ExtensionType(), nil),
		Mutators: map[extensionswebhook.Mutator][]extensionswebhook.Type{
			mutator: {{Obj: &extensionsv1alpha1.OperatingSystemConfig{}}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("create webhook %s: %w", name, err)
	}
	return webhook, nil
}

// Adjust makes API servers call the webhook again if a later one has changed the object. API servers call webhooks by
// name, and gardenlet writes from scratch each time, so the webhook would otherwise never see a host that a later one adds
// for all upstreams, and never copy it. A second call changes nothing else.
func Adjust(webhook *admissionregistrationv1.MutatingWebhook) {
	webhook.ReinvocationPolicy = new(admissionregistrationv1.IfNeededReinvocationPolicy)
}
