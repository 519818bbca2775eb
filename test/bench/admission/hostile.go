// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	admissionv1 "k8s.io/api/admission/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/larder-project/larder/test/integration/admission/garden"
)

const (
	configurationStart = `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[`
	configurationEnd   = `]}`
)

// hostile are reviews of objects by which an owner could starve others.
func (b *bench) hostile() []scenario {
	one := func(cache string) string { return configurationStart + cache + configurationEnd }
	many := func(count int, cache string) string {
		caches := make([]string, count)
		for i := range caches {
			caches[i] = strings.ReplaceAll(cache, "#", fmt.Sprint(i))
		}
		return one(strings.Join(caches, ","))
	}
	size := func(size string) string { return one(`{"upstream":"docker.io","volume":{"size":` + size + `}}`) }

	refused := map[string]string{
		"size 1e999999999":                    size(`1e999999999`),
		"size 1e-9000000":                     size(`"1e-9000000"`),
		"size of 200,000 digits":              size(strings.Repeat("9", 200_000)),
		"2,000 equal upstreams":               many(2000, `{"upstream":"docker.io"}`),
		"4,000 upstreams":                     many(4000, `{"upstream":"registry-#.example.com"}`),
		"150 upstreams with one suffix":       many(150, `{"upstream":"registry-#.example.com","serviceNameSuffix":"x"}`),
		"150 caches with everything wrong":    many(150, `{"upstream":"https://#/","remoteURL":"x","volume":{"size":"-1"},"garbageCollection":{"ttl":"-1s"},"x#":1}`),
		"1 MiB of a field":                    one(`{"upstream":"` + strings.Repeat("A", 1<<20) + `"}`),
		"250 KiB of a URL":                    one(`{"upstream":"docker.io","remoteURL":"https://` + strings.Repeat("A", 250_000) + `"}`),
		"9,000 levels":                        strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000),
		"120,000 values":                      `[` + strings.Repeat(`0,`, 120_000) + `0]`,
		"150 references to a Secret of 1 MiB": many(150, `{"upstream":"registry-#.example.com","secretReferenceName":"large"}`),
	}
	var scenarios []scenario
	for _, name := range sortedKeys(refused) {
		scenarios = append(scenarios, scenario{name, 1, b.createShoot(refused[name], false)})
	}
	return append(scenarios,
		scenario{"size 1e999999999, unchanged", 1, b.keepConfiguration(size(`1e999999999`))},
		scenario{"4,000 upstreams, unchanged", 1, b.keepConfiguration(many(4000, `{"upstream":"registry-#.example.com"}`))},
		scenario{"20,000 entries in spec.resources", 1, b.createShoot(one(`{"upstream":"docker.io"}`), true, manyResources)},
		scenario{"all of them", b.clients, b.mixture(scenarios)},
	)
}

// mixture sends the requests in turn.
func (b *bench) mixture(scenarios []scenario) func(context.Context, int) error {
	return func(ctx context.Context, i int) error { return scenarios[i%len(scenarios)].do(ctx, i) }
}

// createShoot sends a review of the creation of a Shoot.
func (b *bench) createShoot(configuration string, allowed bool, changes ...func(*gardencorev1beta1.Shoot)) func(context.Context, int) error {
	shoot := b.shootWith(configuration)
	for _, change := range changes {
		change(shoot)
	}
	return func(ctx context.Context, _ int) error {
		return b.expect(ctx, allowed, "shoot", &admissionv1.AdmissionRequest{
			Operation: admissionv1.Create, Namespace: shoot.Namespace, Name: shoot.Name, Object: runtime.RawExtension{Object: shoot},
		})
	}
}

// keepConfiguration sends a review of an update that does not change the configuration.
func (b *bench) keepConfiguration(configuration string) func(context.Context, int) error {
	oldShoot := b.shootWith(configuration)
	shoot := oldShoot.DeepCopy()
	shoot.Labels = map[string]string{"bench": "true"}
	return func(ctx context.Context, _ int) error {
		return b.expect(ctx, true, "shoot", &admissionv1.AdmissionRequest{
			Operation: admissionv1.Update, Namespace: shoot.Namespace, Name: shoot.Name,
			Object: runtime.RawExtension{Object: shoot}, OldObject: runtime.RawExtension{Object: oldShoot},
		})
	}
}

func (b *bench) shootWith(configuration string) *gardencorev1beta1.Shoot {
	shoot := garden.NewShoot(b.population.small.namespace)
	shoot.TypeMeta = metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"}
	shoot.Name = "hostile"
	shoot.Spec.Extensions[0].ProviderConfig = &runtime.RawExtension{Raw: []byte(configuration)}
	shoot.Spec.Resources = []gardencorev1beta1.NamedResourceReference{secretReference("large", b.population.oversized.Name)}
	return shoot
}

func manyResources(shoot *gardencorev1beta1.Shoot) {
	for i := range 20_000 {
		shoot.Spec.Resources = append(shoot.Spec.Resources, secretReference(fmt.Sprint(i), "x"))
	}
}

func secretReference(name, secret string) gardencorev1beta1.NamedResourceReference {
	return gardencorev1beta1.NamedResourceReference{
		Name:        name,
		ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: secret},
	}
}

// newOversizedSecret returns a Secret of a MiB with as many keys as possible.
func newOversizedSecret(namespace string) *corev1.Secret {
	secret := garden.NewSecret(namespace)
	for i := range 8000 {
		secret.Data[fmt.Sprintf("key-%d", i)] = make([]byte, 100)
	}
	return secret
}
