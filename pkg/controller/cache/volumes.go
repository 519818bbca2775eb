// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
)

// A volume grows in two steps: the claims that exist are expanded, and the
// StatefulSet, whose claim template is immutable, is replaced by one that asks
// for the new size, without touching pods and claims.

// expandClaims expands the claims that ask for less than they should. Claims
// without a volume cannot be expanded yet; their turn comes with a later
// reconciliation. It returns the caches with the sizes that their volumes can
// have, and a problem for each claim that stays smaller than its owner wants.
func expandClaims(ctx context.Context, log logr.Logger, shoot client.Client, caches []component.Values) ([]component.Values, []error, error) {
	var (
		problems []error
		stuck    = map[string]resource.Quantity{}
	)
	for _, cache := range changeable(caches) {
		to := *cache.Cache.Volume.Size
		for ordinal := range component.MaxReplicas {
			claim, err := getClaim(ctx, shoot, component.ClaimName(cache.Name(), ordinal))
			if err != nil {
				return nil, nil, err
			}
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
	return withSizes(caches, stuck), problems, nil
}

// getClaim returns the claim with the given name, or nil if there is none.
func getClaim(ctx context.Context, shoot client.Client, name string) (*corev1.PersistentVolumeClaim, error) {
	claim := &corev1.PersistentVolumeClaim{}
	if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, claim); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read volume claim %s in the Shoot: %w", name, err)
	}
	return claim, nil
}

func expandClaim(ctx context.Context, shoot client.Client, claim *corev1.PersistentVolumeClaim, size resource.Quantity) error {
	from := claim.Spec.Resources.Requests.Storage().String()
	patch := client.MergeFrom(claim.DeepCopy())
	claim.Spec.Resources.Requests[corev1.ResourceStorage] = size
	if err := shoot.Patch(ctx, claim, patch); apierrors.IsForbidden(err) {
		return retryableProblem(fmt.Errorf("its volume cannot grow from %s to %s and stays in use as it is, the Shoot's API server says why; "+
			"if the StorageClass does not allow expansion, let it (allowVolumeExpansion), or remove the cache, wait until it is gone, and add it again with the new size: %w",
			from, size.String(), err))
	} else if err != nil {
		return fmt.Errorf("could not expand the volume claim %s from %s to %s: %w", claim.Name, from, size.String(), err)
	}
	return nil
}

// withSizes returns the caches with other volume sizes, which are given by the names of the caches.
func withSizes(caches []component.Values, sizes map[string]resource.Quantity) []component.Values {
	out := slices.Clone(caches)
	for i, cache := range out {
		if size, ok := sizes[cache.Name()]; ok {
			volume := *cache.Cache.Volume
			volume.Size = &size
			out[i].Cache.Volume = &volume
		}
	}
	return out
}

// replaceOutgrownStatefulSets deletes the StatefulSets whose claim template
// asks for less than it should, and has them created again. Pods and claims
// are orphaned meanwhile and then adopted by the new StatefulSet. This comes
// after the deployment of the new size, so that it is not the old one that is
// created again.
func (a *Actuator) replaceOutgrownStatefulSets(ctx context.Context, log logr.Logger, shoot client.Client, namespace string, caches []component.Values) error {
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
		log.Info("Replacing StatefulSet since its volume grows", "statefulSet", statefulSet.Name, "size", cache.Cache.Volume.Size.String())
		found = true
		errs = append(errs, orphan(ctx, shoot, statefulSet))
	}
	if found {
		// Also after an error: another one, or this very one, may be gone.
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

// needsGrowth reports whether a size that was found in the Shoot is less than the wanted one. One that no volume can have,
// such as 1e999999999, which would take hours to compare, needs no growth.
func needsGrowth(found, wanted resource.Quantity) bool {
	return isPlain(found) && isPlain(wanted) && found.Cmp(wanted) < 0
}

// isPlain reports whether a quantity is compared with others in no time: it has few digits, and no large exponent.
func isPlain(quantity resource.Quantity) bool {
	const maxScale, maxBits = 30, 128
	digits := quantity.DeepCopy()
	decimal := digits.AsDec()
	return -maxScale <= decimal.Scale() && decimal.Scale() <= maxScale && decimal.UnscaledBig().BitLen() <= maxBits
}

// orphan deletes a StatefulSet without its pods and waits until it is gone, which it also is when
// gardener-resource-manager has already created another one in its place.
func orphan(ctx context.Context, shoot client.Client, statefulSet *appsv1.StatefulSet) error {
	if err := shoot.Delete(ctx, statefulSet,
		client.PropagationPolicy(metav1.DeletePropagationOrphan),
		client.Preconditions{UID: &statefulSet.UID},
	); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("could not delete the StatefulSet %s: %w", statefulSet.Name, err)
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
			return retry.MinorError(errors.New("it is still there"))
		}
		return retry.Ok()
	}); err != nil {
		return fmt.Errorf("could not wait until the StatefulSet %s is deleted: %w", statefulSet.Name, err)
	}
	return nil
}

// deleteSurplusClaims deletes the claims of caches that are no longer highly
// available, once their StatefulSets do without: a replica that comes back
// would wait for a claim that is about to go.
func deleteSurplusClaims(ctx context.Context, log logr.Logger, shoot client.Client, caches []component.Values) error {
	for _, cache := range changeable(caches) {
		for _, name := range component.SurplusClaims(cache) {
			claim, err := getClaim(ctx, shoot, name)
			if err != nil {
				return err
			}
			if claim == nil || claim.DeletionTimestamp != nil {
				continue
			}
			if err := waitUntilScaledDown(ctx, shoot, cache); err != nil {
				return err
			}
			log.Info("Deleting volume claim of a replica that is no more", "claim", claim.Name)
			if err := shoot.Delete(ctx, claim); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("delete volume claim %s in the Shoot: %w", claim.Name, err)
			}
		}
	}
	return nil
}

// waitUntilScaledDown waits until gardener-resource-manager has scaled the StatefulSet of a cache to one replica.
func waitUntilScaledDown(ctx context.Context, shoot client.Client, cache component.Values) error {
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
		return fmt.Errorf("could not wait until the StatefulSet %s is scaled down: %w", cache.Name(), err)
	}
	return nil
}

// changeable returns the caches without those that stay as they are.
func changeable(caches []component.Values) []component.Values {
	return slices.DeleteFunc(slices.Clone(caches), func(cache component.Values) bool { return cache.Kept != nil })
}
