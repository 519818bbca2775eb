// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/integration/admission/garden"
)

const (
	// writers is the number of objects that are created concurrently.
	writers = 8
	// finalizer is Gardener's finalizer of Secrets that Shoots reference.
	finalizer = "gardener.cloud/reference-protection"
)

// project is a project with a Shoot for each of the used Secrets.
type project struct {
	namespace string
	shoots    []*gardencorev1beta1.Shoot
	// used are Secrets that a Shoot uses; free are those that no Shoot uses.
	used, free []*corev1.Secret
}

// population are the objects of the garden.
type population struct {
	large, small *project
	// oversized is an unusable Secret.
	oversized *corev1.Secret
}

// populate fills the garden with one large project and a number of small ones.
func populate(ctx context.Context, c client.Client, s settings) (*population, error) {
	if err := garden.Prepare(ctx, c); err != nil {
		return nil, err
	}
	var projects []*project
	free := s.secrets - s.shoots
	for left := s.shoots; left > 0; {
		shoots := min(left, s.small)
		if len(projects) == 0 {
			shoots = min(left, s.largest)
		}
		namespace, err := garden.CreateProject(ctx, c, fmt.Sprintf("p%d", len(projects)))
		if err != nil {
			return nil, err
		}
		project := &project{namespace: namespace}
		if err := project.populate(ctx, c, shoots, max(1, free*shoots/s.shoots), s.ballast); err != nil {
			return nil, err
		}
		projects = append(projects, project)
		left -= shoots
	}
	result := &population{large: projects[0], small: projects[len(projects)-1]}
	result.oversized = newOversizedSecret(result.small.namespace)
	if err := c.Create(ctx, result.oversized); err != nil {
		return nil, fmt.Errorf("create oversized Secret: %w", err)
	}
	return result, nil
}

func (p *project) populate(ctx context.Context, c client.Client, shoots, free, ballast int) error {
	p.shoots = make([]*gardencorev1beta1.Shoot, shoots)
	p.used = make([]*corev1.Secret, shoots)
	p.free = make([]*corev1.Secret, free)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for i := range shoots {
		group.Go(func() error {
			p.used[i] = p.newSecret()
			if err := c.Create(ctx, p.used[i]); err != nil {
				return fmt.Errorf("create Secret: %w", err)
			}
			p.shoots[i] = p.newShoot(p.used[i].Name, ballast)
			if err := c.Create(ctx, p.shoots[i]); err != nil {
				return fmt.Errorf("create Shoot: %w", err)
			}
			return nil
		})
	}
	for i := range free {
		group.Go(func() error {
			p.free[i] = p.newSecret()
			if err := c.Create(ctx, p.free[i]); err != nil {
				return fmt.Errorf("create Secret: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// newSecret returns protected credentials.
func (p *project) newSecret() *corev1.Secret {
	secret := garden.NewSecret(p.namespace)
	secret.Finalizers = []string{finalizer}
	return secret
}

// newShoot returns a Shoot with three caches, of which two use the Secret.
func (p *project) newShoot(secret string, ballast int) *gardencorev1beta1.Shoot {
	shoot := garden.NewShoot(p.namespace)
	shoot.Annotations = map[string]string{"larder.test/ballast": strings.Repeat("x", ballast)}
	shoot.Spec.Extensions[0].ProviderConfig = &runtime.RawExtension{Raw: []byte(
		`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` +
			`{"upstream":"docker.io","volume":{"size":"100Gi"},"secretReferenceName":"robot"},` +
			`{"upstream":"ghcr.io"},{"upstream":"registry.example.com","secretReferenceName":"robot"}]}`)}
	referTo(shoot, secret)
	return shoot
}

func referTo(shoot *gardencorev1beta1.Shoot, secret string) {
	shoot.Spec.Resources = []gardencorev1beta1.NamedResourceReference{secretReference("robot", secret)}
}
