// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"

	kubernetesutils "github.com/gardener/gardener/pkg/utils/kubernetes"
	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	component "github.com/larder-project/larder/pkg/component/cache"
)

// A volume grows in two steps: the claims that exist are expanded, and the
// StatefulSet, whose claim template is immutable, is replaced by one that asks
// for the new size, without touching pods and claims.

// expandClaims expands the claims that ask for less than they should. Claims
// without a volume cannot be expanded yet; their turn comes with a later
// reconciliation.
func expandClaims(ctx context.Context, log logr.Logger, shoot client.Client, caches []component.Values) error {
	claims := &corev1.PersistentVolumeClaimList{}
	if err := shoot.List(ctx, claims, component.Selection...); err != nil {
		return fmt.Errorf("could not list the volume claims of the caches in the Shoot: %w", err)
	}
	wanted := byName(caches)
	for _, claim := range claims.Items {
		cache, ok := wanted[component.NameOf(&claim)]
		if !ok || claim.Status.Phase != corev1.ClaimBound {
			continue
		}
		size := *cache.Cache.Volume.Size
		if claim.Spec.Resources.Requests.Storage().Cmp(size) >= 0 {
			continue
		}
		log.Info("Expanding volume claim", "claim", claim.Name, "from", claim.Spec.Resources.Requests.Storage().String(), "to", size.String())
		patch := client.MergeFrom(claim.DeepCopy())
		claim.Spec.Resources.Requests[corev1.ResourceStorage] = size
		if err := shoot.Patch(ctx, &claim, patch); apierrors.IsForbidden(err) {
			return configurationProblem(fmt.Errorf("the volume of cache %s cannot grow to %s: set its size back, or remove the cache and add it again with the new size or another storage class: %w",
				cache.Cache.Upstream, size.String(), err))
		} else if err != nil {
			return fmt.Errorf("could not expand the volume claim %s: %w", claim.Name, err)
		}
	}
	return nil
}

// replaceOutgrownStatefulSets deletes the StatefulSets whose claim template
// asks for less than it should, and has them created again. Pods and claims
// are orphaned meanwhile and then adopted by the new StatefulSet. This comes
// after the deployment of the new size, so that it is not the old one that is
// created again.
func (a *Actuator) replaceOutgrownStatefulSets(ctx context.Context, log logr.Logger, shoot client.Client, namespace string, caches []component.Values) error {
	statefulSets := &appsv1.StatefulSetList{}
	if err := shoot.List(ctx, statefulSets, component.Selection...); err != nil {
		return fmt.Errorf("could not list the StatefulSets of the caches in the Shoot: %w", err)
	}
	wanted := byName(caches)
	replaced := false
	for _, statefulSet := range statefulSets.Items {
		cache, ok := wanted[component.NameOf(&statefulSet)]
		if !ok || !outgrown(&statefulSet, *cache.Cache.Volume.Size) {
			continue
		}
		log.Info("Replacing StatefulSet since its volume grows", "statefulSet", statefulSet.Name, "size", cache.Cache.Volume.Size.String())
		if err := orphan(ctx, shoot, &statefulSet); err != nil {
			return err
		}
		replaced = true
	}
	if !replaced {
		return nil
	}
	return a.applyAgain(ctx, namespace)
}

func outgrown(statefulSet *appsv1.StatefulSet, size resource.Quantity) bool {
	for _, template := range statefulSet.Spec.VolumeClaimTemplates {
		if template.Name == component.VolumeClaimTemplate {
			return template.Spec.Resources.Requests.Storage().Cmp(size) < 0
		}
	}
	return false
}

// orphan deletes a StatefulSet without its pods and waits until it is gone.
func orphan(ctx context.Context, shoot client.Client, statefulSet *appsv1.StatefulSet) error {
	if err := shoot.Delete(ctx, statefulSet,
		client.PropagationPolicy(metav1.DeletePropagationOrphan),
		client.Preconditions{UID: &statefulSet.UID},
	); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("could not delete the StatefulSet %s: %w", statefulSet.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	if err := kubernetesutils.WaitUntilResourceDeleted(ctx, shoot, statefulSet, pollInterval); err != nil {
		return fmt.Errorf("could not wait until the StatefulSet %s is deleted: %w", statefulSet.Name, err)
	}
	return nil
}

// byName returns the caches by the name of their objects.
func byName(caches []component.Values) map[string]component.Values {
	named := make(map[string]component.Values, len(caches))
	for _, cache := range caches {
		named[cache.Name()] = cache
	}
	return named
}
