// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/gardener/gardener/pkg/utils/retry"
	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/problem"
)

// A volume grows in two steps: the existing claims are expanded, and the StatefulSet, whose claim template is
// immutable, is replaced by one with the new size, without its pods and claims.

// expandClaims expands claims that are smaller than wanted. Claims without a volume cannot be expanded yet; a later
// reconciliation expands them. It returns the sizes of volumes that cannot grow, by the names of their caches, and a
// problem for each such claim.
func expandClaims(ctx context.Context, log logr.Logger, shoot client.Client, caches []deployment, claims map[string]*corev1.PersistentVolumeClaim) (map[string]resource.Quantity, []error) {
	var (
		problems []error
		stuck    = map[string]resource.Quantity{}
	)
	for _, cache := range changeable(caches) {
		to := *cache.Cache.Volume.Size
		for ordinal := range component.MaxReplicas {
			claim := claims[component.ClaimName(cache.Name(), ordinal)]
			if claim == nil || claim.Status.Phase != corev1.ClaimBound || !needsGrowth(*claim.Spec.Resources.Requests.Storage(), to) {
				continue
			}
			from := *claim.Spec.Resources.Requests.Storage()
			log.Info("Expanding volume claim", "claim", claim.Name, "from", from.String(), "to", to.String())
			if err := expandClaim(ctx, shoot, claim, to); err != nil {
				problems = append(problems, fmt.Errorf("cache %s: %w", cache.Cache.Upstream, err))
				if size, ok := stuck[cache.Name()]; !ok || from.Cmp(size) < 0 {
					stuck[cache.Name()] = from
				}
			}
		}
	}
	return stuck, problems
}

func expandClaim(ctx context.Context, shoot client.Client, claim *corev1.PersistentVolumeClaim, size resource.Quantity) error {
	from := claim.Spec.Resources.Requests.Storage().String()
	patch := client.MergeFrom(claim.DeepCopy())
	claim.Spec.Resources.Requests[corev1.ResourceStorage] = size
	if err := shoot.Patch(ctx, claim, patch); apierrors.IsForbidden(err) {
		return problem.Retryable(fmt.Errorf("its volume cannot grow from %s to %s and is used as it is, for the reason that the Shoot's API server gives below; "+
			"if the StorageClass does not allow expansion, set its allowVolumeExpansion to true, or remove the cache, wait until it is gone, and add it again with the new size: %w",
			from, size.String(), err))
	} else if err != nil {
		return fmt.Errorf("expand PersistentVolumeClaim %s from %s to %s: %w", claim.Name, from, size.String(), err)
	}
	return nil
}

// replaceOutgrownStatefulSets deletes the StatefulSets whose claim template is smaller than wanted, and requests their
// re-creation. The new StatefulSets adopt the orphaned pods and claims. The new size has to be deployed before, or the
// old one would be created again.
func (a *Actuator) replaceOutgrownStatefulSets(ctx context.Context, log logr.Logger, shoot client.Client, namespace string, caches []deployment) error {
	var (
		found = false
		errs  []error
	)
	for _, cache := range changeable(caches) {
		statefulSet := &appsv1.StatefulSet{}
		if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: cache.Name()}, statefulSet); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			errs = append(errs, fmt.Errorf("read StatefulSet %s in the Shoot: %w", cache.Name(), err))
			break
		}
		if !outgrown(statefulSet, *cache.Cache.Volume.Size) {
			continue
		}
		log.Info("Replacing StatefulSet to grow its volumes", "statefulSet", statefulSet.Name, "size", cache.Cache.Volume.Size.String())
		found = true
		errs = append(errs, orphan(ctx, shoot, statefulSet))
	}
	if found {
		// After an error, this StatefulSet or another one may be gone nevertheless.
		errs = append(errs, a.applyAgain(ctx, namespace))
	}
	return errors.Join(errs...)
}

func outgrown(statefulSet *appsv1.StatefulSet, size resource.Quantity) bool {
	for _, template := range statefulSet.Spec.VolumeClaimTemplates {
		if template.Name == component.VolumeClaimTemplate {
			return needsGrowth(*template.Spec.Resources.Requests.Storage(), size)
		}
	}
	return false
}

// needsGrowth reports whether a size in the Shoot is smaller than the wanted one. Sizes such as 1e999999999, which no
// volume can have and which take hours to compare, are ignored.
func needsGrowth(found, wanted resource.Quantity) bool {
	return isPlain(found) && isPlain(wanted) && found.Cmp(wanted) < 0
}

// isPlain reports whether a quantity is fast to compare: it has few digits and a small exponent.
func isPlain(quantity resource.Quantity) bool {
	const maxScale, maxBits = 30, 128
	digits := quantity.DeepCopy()
	decimal := digits.AsDec()
	return -maxScale <= decimal.Scale() && decimal.Scale() <= maxScale && decimal.UnscaledBig().BitLen() <= maxBits
}

// orphan deletes a StatefulSet without its pods and waits until it is gone, even if gardener-resource-manager has
// already created its replacement.
func orphan(ctx context.Context, shoot client.Client, statefulSet *appsv1.StatefulSet) error {
	if err := shoot.Delete(ctx, statefulSet,
		client.PropagationPolicy(metav1.DeletePropagationOrphan),
		client.Preconditions{UID: &statefulSet.UID},
	); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete StatefulSet %s: %w", statefulSet.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	present := &appsv1.StatefulSet{}
	if err := retry.Until(ctx, pollInterval, func(ctx context.Context) (bool, error) {
		if err := shoot.Get(ctx, client.ObjectKeyFromObject(statefulSet), present); apierrors.IsNotFound(err) {
			return retry.Ok()
		} else if err != nil {
			return retry.MinorError(err)
		}
		if present.UID == statefulSet.UID {
			return retry.MinorError(errors.New("it still exists"))
		}
		return retry.Ok()
	}); err != nil {
		return fmt.Errorf("wait for the deletion of StatefulSet %s: %w", statefulSet.Name, err)
	}
	return nil
}

// deleteSurplusClaims deletes the claims of caches that are no longer highly available, once their StatefulSets are
// scaled down: a replica that comes back would wait for a claim that is about to be deleted.
func deleteSurplusClaims(ctx context.Context, log logr.Logger, shoot client.Client, caches []deployment, claims map[string]*corev1.PersistentVolumeClaim) error {
	for _, cache := range changeable(caches) {
		for _, name := range component.SurplusClaims(cache.Values) {
			claim := claims[name]
			if claim == nil || claim.DeletionTimestamp != nil {
				continue
			}
			if err := waitUntilScaledDown(ctx, shoot, cache); err != nil {
				return err
			}
			log.Info("Deleting volume claim of a removed replica", "claim", claim.Name)
			if err := shoot.Delete(ctx, claim); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("delete PersistentVolumeClaim %s in the Shoot: %w", claim.Name, err)
			}
		}
	}
	return nil
}

// waitUntilScaledDown waits until gardener-resource-manager has scaled the StatefulSet of a cache to one replica.
func waitUntilScaledDown(ctx context.Context, shoot client.Client, cache deployment) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	statefulSet := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: component.Namespace, Name: cache.Name()}}
	if err := retry.Until(ctx, pollInterval, func(ctx context.Context) (bool, error) {
		if err := shoot.Get(ctx, client.ObjectKeyFromObject(statefulSet), statefulSet); err != nil {
			return retry.MinorError(err)
		}
		if replicas := ptr.Deref(statefulSet.Spec.Replicas, 1); replicas > 1 {
			return retry.MinorError(fmt.Errorf("it has %d replicas", replicas))
		}
		return retry.Ok()
	}); err != nil {
		return fmt.Errorf("wait for the scale-down of StatefulSet %s: %w", cache.Name(), err)
	}
	return nil
}
