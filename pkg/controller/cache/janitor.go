// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// sweepInterval is how often the Janitor looks. What it reads is few objects, and their metadata.
	sweepInterval = 15 * time.Second
	// sweepPage is how many ManagedResources it reads at a time.
	sweepPage = 100
)

// Janitor has Services removed that have retired, once the nodes do without
// them. It looks between two reconciliations of a Shoot, since only then the
// Cluster says that the last one has ended well.
type Janitor struct {
	// Client is a client for the seed, without a cache.
	Client client.Client
	// Log tells what it does.
	Log logr.Logger
}

// Start looks until the context ends. It implements manager.Runnable.
func (j *Janitor) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := j.sweep(ctx); err != nil && ctx.Err() == nil {
			j.Log.Error(err, "Could not look after retired Services")
		}
	}, sweepInterval)
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Janitor) NeedLeaderElection() bool { return true }

// sweep looks once. What goes wrong with one Shoot is no reason not to look after the others.
func (j *Janitor) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	page := &metav1.PartialObjectMetadataList{}
	page.SetGroupVersionKind(resourcesv1alpha1.SchemeGroupVersion.WithKind("ManagedResourceList"))
	var errs []error
	for more := true; more; more = page.Continue != "" {
		if err := j.Client.List(ctx, page, client.MatchingLabels{retiredLabel: "true"}, client.Limit(sweepPage), client.Continue(page.Continue)); err != nil {
			return errors.Join(append(errs, fmt.Errorf("list ManagedResources: %w", err))...)
		}
		for _, managedResource := range page.Items {
			if managedResource.Name != ManagedResourceServices || managedResource.DeletionTimestamp != nil {
				continue
			}
			if err := j.release(ctx, &managedResource); err != nil {
				errs = append(errs, fmt.Errorf("look after namespace %s: %w", managedResource.Namespace, err))
			}
		}
	}
	return errors.Join(errs...)
}

// release has the Services removed that nodes of a Shoot do without, either by the actuator or, if the Extension is gone,
// by itself.
func (j *Janitor) release(ctx context.Context, managedResource *metav1.PartialObjectMetadata) error {
	namespace := managedResource.Namespace
	cluster, err := extensionscontroller.GetCluster(ctx, j.Client, namespace)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	// A Shoot that sleeps has no API server to remove anything from, one in deletion no nodes that ask.
	leaves := cluster.Shoot.DeletionTimestamp != nil
	if extensionscontroller.IsHibernationEnabled(cluster) && !leaves {
		return nil
	}
	if !leaves {
		services, err := readServices(ctx, j.Client, namespace)
		if err != nil {
			return err
		}
		updated := nodesUpdated(cluster.Shoot)
		if !slices.ContainsFunc(services, func(service *corev1.Service) bool {
			return isReleased(service, updated, time.Now())
		}) {
			return nil
		}
	}

	ex := &extensionsv1alpha1.Extension{}
	if err := j.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: registry.ExtensionType}, ex); apierrors.IsNotFound(err) {
		return j.remove(ctx, managedResource)
	} else if err != nil {
		return fmt.Errorf("read the Extension: %w", err)
	}
	if leaves || !isIdle(ex) {
		return nil
	}
	j.Log.Info("Having Services removed that nodes do without", "namespace", namespace)
	patch := client.MergeFromWithOptions(ex.DeepCopy(), client.MergeFromWithOptimisticLock{})
	metav1.SetMetaDataAnnotation(&ex.ObjectMeta, v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile)
	if err := j.Client.Patch(ctx, ex, patch); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("have the Extension reconciled: %w", err)
	}
	return nil
}

// isIdle reports whether an Extension waits for nothing. One that failed is tried again anyway.
func isIdle(ex *extensionsv1alpha1.Extension) bool {
	_, busy := ex.Annotations[v1beta1constants.GardenerOperation]
	last := ex.Status.LastOperation
	return !busy && ex.DeletionTimestamp == nil && last != nil && last.State == gardencorev1beta1.LastOperationStateSucceeded
}

// remove deletes a ManagedResource with all Services, unless it has been changed meanwhile, as by an Extension that is
// back. Its Secret is collected as garbage.
func (j *Janitor) remove(ctx context.Context, managedResource *metav1.PartialObjectMetadata) error {
	j.Log.Info("Removing Services that nodes do without", "namespace", managedResource.Namespace)
	object := newManagedResource(managedResource.Namespace, managedResource.Name)
	err := j.Client.Delete(ctx, object, client.Preconditions{UID: &managedResource.UID, ResourceVersion: &managedResource.ResourceVersion})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete ManagedResource %s: %w", managedResource.Name, err)
	}
	return nil
}
