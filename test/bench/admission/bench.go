// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// line is the format of a line of the table.
const line = "%-50s %8s %12s %12s %12s %12s\n"

// bench measures and prints.
type bench struct {
	settings
	servers    *servers
	population *population
	program    *program
}

// scenario is a line of the table.
type scenario struct {
	name string
	// clients is the number of concurrent clients.
	clients int
	// do sends the i-th request and fails if the response is not the expected one.
	do func(ctx context.Context, i int) error
}

func (b *bench) scenarios() []scenario {
	small, large := b.population.small, b.population.large
	ofSmall := fmt.Sprintf("project of %d", len(small.shoots))
	ofLarge := fmt.Sprintf("project of %d", len(large.shoots))
	return []scenario{
		{"Shoot update, caches as before", 1, b.updateShoot(large, false)},
		{"Shoot update, another Secret", 1, b.updateShoot(large, true)},
		{"Shoot update, another Secret", b.clients, b.updateShoot(large, true)},
		{"Secret DELETE, unused, " + ofSmall, 1, b.deleteSecret(small, small.free, true)},
		{"Secret DELETE, used, " + ofSmall, 1, b.deleteSecret(small, small.used, false)},
		{"Secret DELETE, used, " + ofSmall, b.clients, b.deleteSecret(small, small.used, false)},
		{"Secret DELETE, unused, " + ofLarge, 1, b.deleteSecret(large, large.free, true)},
		{"Secret DELETE, used, " + ofLarge, 1, b.deleteSecret(large, large.used, false)},
		{"Secret DELETE, used, " + ofLarge, b.clients, b.deleteSecret(large, large.used, false)},
		{"kubectl delete secret, used, " + ofSmall, 1, b.callServer(small)},
	}
}

func (b *bench) run(ctx context.Context) error {
	idle, _, err := b.program.memory()
	if err != nil {
		return err
	}
	shoot, err := json.Marshal(b.population.large.shoots[0])
	if err != nil {
		return err
	}
	fmt.Printf("%d Shoots of %d KiB, %d Secrets; %d reviews each\n\n", b.shoots, len(shoot)/1024, b.secrets, b.reviews)
	fmt.Printf(line, "", "at once", "p50", "p99", "max", "RSS after")
	for _, scenario := range append(b.scenarios(), b.hostile()...) {
		progress("%s, %d at once", scenario.name, scenario.clients)
		latencies, err := b.measure(ctx, scenario)
		if err != nil {
			return fmt.Errorf("%s: %w", scenario.name, err)
		}
		now, _, err := b.program.memory()
		if err != nil {
			return err
		}
		fmt.Printf(line, scenario.name, strconv.Itoa(scenario.clients),
			milliseconds(percentile(latencies, 50)), milliseconds(percentile(latencies, 99)), milliseconds(percentile(latencies, 100)),
			fmt.Sprintf("%.0f MiB", now))
	}
	_, most, err := b.program.memory()
	if err != nil {
		return err
	}
	fmt.Printf("\nRSS of the admission component: %.0f MiB after the start, %.0f MiB at most\n", idle, most)
	return nil
}

// measure returns the latencies in ascending order.
func (b *bench) measure(ctx context.Context, scenario scenario) ([]time.Duration, error) {
	for i := range scenario.clients {
		if err := scenario.do(ctx, i); err != nil {
			return nil, err
		}
	}
	latencies := make([]time.Duration, b.reviews)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range scenario.clients {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(latencies) {
					return nil
				}
				start := time.Now()
				if err := scenario.do(ctx, i); err != nil {
					return err
				}
				latencies[i] = time.Since(start)
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(latencies)
	return latencies, nil
}

// percentile returns the p-th of latencies in ascending order.
func percentile(latencies []time.Duration, p int) time.Duration {
	return latencies[max(0, (len(latencies)*p+99)/100-1)]
}

func sortedKeys[T any](m map[string]T) []string {
	return slices.Sorted(maps.Keys(m))
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// updateShoot sends reviews of updates of Shoots, with or without another Secret.
func (b *bench) updateShoot(p *project, anotherSecret bool) func(context.Context, int) error {
	return func(ctx context.Context, i int) error {
		oldShoot := p.shoots[i%len(p.shoots)]
		oldShoot = oldShoot.DeepCopy()
		oldShoot.TypeMeta = metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"}
		shoot := oldShoot.DeepCopy()
		shoot.Labels["bench"] = "true"
		if anotherSecret {
			referTo(shoot, p.free[i%len(p.free)].Name)
		}
		return b.expect(ctx, true, "shoot", &admissionv1.AdmissionRequest{
			Operation: admissionv1.Update, Namespace: p.namespace, Name: shoot.Name,
			Object: runtime.RawExtension{Object: shoot}, OldObject: runtime.RawExtension{Object: oldShoot},
		})
	}
}

// deleteSecret sends reviews of the deletion of Secrets.
func (b *bench) deleteSecret(p *project, secrets []*corev1.Secret, allowed bool) func(context.Context, int) error {
	return func(ctx context.Context, i int) error {
		secret := secrets[i%len(secrets)].DeepCopy()
		secret.TypeMeta = metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Secret"}
		return b.expect(ctx, allowed, "secret", &admissionv1.AdmissionRequest{
			Operation: admissionv1.Delete, Namespace: p.namespace, Name: secret.Name,
			OldObject: runtime.RawExtension{Object: secret},
		})
	}
}

func (b *bench) expect(ctx context.Context, allowed bool, webhook string, request *admissionv1.AdmissionRequest) error {
	request.UID = "1"
	response, err := b.program.review(ctx, webhook, request)
	if err != nil {
		return err
	}
	if response.Allowed != allowed {
		return fmt.Errorf("unexpected response: allowed is %t: %v", response.Allowed, response.Result)
	}
	return nil
}

// callServer requests the deletion of a used Secret from the API server.
func (b *bench) callServer(p *project) func(context.Context, int) error {
	return func(ctx context.Context, i int) error {
		err := b.servers.client.Delete(ctx, p.used[i%len(p.used)].DeepCopy(), client.DryRunAll)
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("expected the deletion to be rejected: %w", err)
		}
		return nil
	}
}
