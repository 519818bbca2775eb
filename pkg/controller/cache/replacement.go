// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"slices"
	"time"

	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	component "github.com/larder-project/larder/pkg/component/cache"
)

// replacementTimeout bounds the wait for gardener-resource-manager to create StatefulSets.
const replacementTimeout = 10 * time.Second

// allowReplacement lets gardener-resource-manager replace the StatefulSets of caches, without their pods, when an
// immutable field changes. Other extensions of this type deploy StatefulSets that differ in such fields, so this is
// needed both to take over from them and to hand over to them. gardener-resource-manager removes annotations that its
// ManagedResource no longer contains, but keeps those that it never contained. So this extension does not deploy the
// annotations with the StatefulSets, but sets them itself.
//
// An error is not a problem of a cache: the annotations are set with the next reconciliation. It reports whether there
// was none; otherwise, another attempt in this reconciliation would only take as long, as with a webhook that never
// returns.
func allowReplacement(ctx context.Context, log logr.Logger, shoot client.Client, caches []deployment) bool {
	ctx, cancel := context.WithTimeout(ctx, replacementTimeout)
	defer cancel()
	for _, cache := range caches {
		if _, err := annotateStatefulSet(ctx, shoot, cache.Name()); err != nil {
			log.Error(err, "Failed to allow the replacement of a StatefulSet")
			return false
		}
	}
	return true
}

// allowReplacementOfNew is allowReplacement for the StatefulSets as this extension deploys them, and waits for these.
func allowReplacementOfNew(ctx context.Context, log logr.Logger, shoot client.Client, caches []deployment) {
	missing := make([]string, 0, len(caches))
	for _, cache := range caches {
		missing = append(missing, cache.Name())
	}
	var last error
	err := wait.PollUntilContextTimeout(ctx, pollInterval, replacementTimeout, true, func(ctx context.Context) (bool, error) {
		last = nil
		missing = slices.DeleteFunc(missing, func(name string) bool {
			statefulSet, err := annotateStatefulSet(ctx, shoot, name)
			if err != nil {
				last = err
				return false
			}
			return statefulSet != nil && statefulSet.DeletionTimestamp == nil && statefulSet.Spec.PodManagementPolicy == component.PodManagementPolicy
		})
		return len(missing) == 0, nil
	})
	if err != nil {
		log.Info("StatefulSets cannot be replaced yet", "statefulSets", missing, "reason", fmt.Sprint(last))
	}
}

// annotateStatefulSet sets the annotations of a StatefulSet. It returns nil if there is no StatefulSet.
func annotateStatefulSet(ctx context.Context, shoot client.Client, name string) (*appsv1.StatefulSet, error) {
	statefulSet := &appsv1.StatefulSet{}
	if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, statefulSet); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	patch := client.MergeFromWithOptions(statefulSet.DeepCopy(), client.MergeFromWithOptimisticLock{})
	changed := false
	for key, value := range map[string]string{
		resourcesv1alpha1.DeleteOnInvalidUpdate:              "true",
		resourcesv1alpha1.DeletionPropagationOnInvalidUpdate: string(metav1.DeletePropagationOrphan),
	} {
		changed = changed || statefulSet.Annotations[key] != value
		metav1.SetMetaDataAnnotation(&statefulSet.ObjectMeta, key, value)
	}
	if !changed {
		return statefulSet, nil
	}
	if err := shoot.Patch(ctx, statefulSet, patch); err != nil {
		return nil, fmt.Errorf("annotate StatefulSet %s: %w", name, err)
	}
	return statefulSet, nil
}
