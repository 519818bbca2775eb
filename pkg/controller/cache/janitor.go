// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/extension"
)

const (
	// sweepInterval is the interval of sweeps, which read the metadata of few objects.
	sweepInterval = 15 * time.Second
	// sweepPage is the page size of a list of ManagedResources.
	sweepPage = 100
)

// Janitor removes retired Services once no node uses them. It acts between two reconciliations of a Shoot, because only
// then does the Cluster show that the last one succeeded. It also requests reconciliations for what a successful one could
// not do.
type Janitor struct {
	// Client is an uncached client for the seed.
	Client client.Client
	// Clock decides what is due.
	Clock clock.PassiveClock
	// Unobserved are the Shoots whose observability has to be deployed again.
	Unobserved *Unobserved
	Log        logr.Logger
}

// Start implements manager.Runnable. It sweeps until the context ends.
func (j *Janitor) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := j.sweep(ctx); err != nil && ctx.Err() == nil {
			j.Log.Error(err, "Failed to remove retired Services")
		}
		if err := j.restrict(ctx); err != nil && ctx.Err() == nil {
			j.Log.Error(err, "Failed to request the restriction of caches to nodes")
		}
		if err := j.retryObservability(ctx); err != nil && ctx.Err() == nil {
			j.Log.Error(err, "Failed to request another deployment of what observes caches")
		}
	}, sweepInterval)
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Janitor) NeedLeaderElection() bool { return true }

// sweep removes or requests the removal of the retired Services of all Shoots.
func (j *Janitor) sweep(ctx context.Context) error {
	retired := labels.SelectorFromSet(labels.Set{retiredLabel: "true"})
	return j.eachManagedResource(ctx, ManagedResourceServices, retired, j.release)
}

// eachManagedResource acts once on the ManagedResources of all Shoots with a name and certain labels. An error of one
// Shoot does not stop the others.
func (j *Janitor) eachManagedResource(ctx context.Context, name string, selector labels.Selector, act func(context.Context, *metav1.PartialObjectMetadata) error) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	page := &metav1.PartialObjectMetadataList{}
	page.SetGroupVersionKind(resourcesv1alpha1.SchemeGroupVersion.WithKind("ManagedResourceList"))
	var errs []error
	for more := true; more; more = page.Continue != "" {
		if err := j.Client.List(ctx, page, client.MatchingLabelsSelector{Selector: selector}, client.Limit(sweepPage), client.Continue(page.Continue)); err != nil {
			return errors.Join(append(errs, fmt.Errorf("list ManagedResources: %w", err))...)
		}
		for _, managedResource := range page.Items {
			if managedResource.Name != name || managedResource.DeletionTimestamp != nil {
				continue
			}
			if err := act(ctx, &managedResource); err != nil {
				errs = append(errs, fmt.Errorf("namespace %s: %w", managedResource.Namespace, err))
			}
		}
	}
	return errors.Join(errs...)
}

// release removes the Services that no node of a Shoot uses: by a reconciliation of the Extension, or directly if that
// is gone.
func (j *Janitor) release(ctx context.Context, managedResource *metav1.PartialObjectMetadata) error {
	namespace := managedResource.Namespace
	cluster, err := extension.ReadCluster(ctx, j.Client, namespace)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	// A hibernated Shoot has no API server to remove Services from, and one in deletion has no nodes that use them.
	leaves := cluster.Shoot.DeletionTimestamp != nil
	if extensionscontroller.IsHibernationEnabled(cluster) && !leaves {
		return nil
	}
	mayRemove := leaves
	if !leaves {
		services, err := readServices(ctx, j.Client, namespace)
		if err != nil {
			return err
		}
		updated, now := nodesUpdated(cluster.Shoot), time.Now()
		inUse := slices.DeleteFunc(slices.Clone(services), func(service *corev1.Service) bool { return isReleased(service, updated, now) })
		if len(inUse) == len(services) {
			return nil
		}
		mayRemove = len(inUse) == 0
	}

	ex := &extensionsv1alpha1.Extension{}
	if err := j.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: registry.ExtensionType}, ex); apierrors.IsNotFound(err) {
		if !mayRemove {
			return nil
		}
		return j.remove(ctx, managedResource)
	} else if err != nil {
		return fmt.Errorf("read Extension: %w", err)
	}
	if leaves || !isIdle(ex) {
		return nil
	}
	j.Log.Info("Requesting removal of unused Services", "namespace", namespace)
	return j.request(ctx, ex)
}

// restrict requests the reconciliations in which caches are restricted to nodes that have got their certificate.
func (j *Janitor) restrict(ctx context.Context) error {
	return j.eachManagedResource(ctx, ManagedResource, selectAwaitingNodes(), j.restrictShoot)
}

// restrictShoot requests a reconciliation if all nodes of a Shoot have the certificate that its caches wait for.
func (j *Janitor) restrictShoot(ctx context.Context, managedResource *metav1.PartialObjectMetadata) error {
	namespace := managedResource.Namespace
	created, err := strconv.ParseInt(managedResource.Labels[awaitingNodesLabel], 10, 64)
	if err != nil {
		return fmt.Errorf("parse label %s: %w", awaitingNodesLabel, err)
	}
	cluster, err := extension.ReadCluster(ctx, j.Client, namespace)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if cluster.Shoot.DeletionTimestamp != nil || extensionscontroller.IsHibernationEnabled(cluster) || !nodesHaveCertificate(cluster.Shoot, time.Unix(created, 0), j.Clock.Now()) {
		return nil
	}
	ex := &extensionsv1alpha1.Extension{}
	if err := j.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: registry.ExtensionType}, ex); err != nil {
		return client.IgnoreNotFound(err)
	}
	if !isIdle(ex) {
		return nil
	}
	j.Log.Info("Requesting the restriction of caches to nodes", "namespace", namespace)
	return j.request(ctx, ex)
}

// retryObservability requests reconciliations of the Shoots that are due. One that is busy or fails is retried anyway.
func (j *Janitor) retryObservability(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	var errs []error
	for _, namespace := range j.Unobserved.take(j.Clock.Now()) {
		ex := &extensionsv1alpha1.Extension{}
		err := j.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: registry.ExtensionType}, ex)
		if err == nil && isIdle(ex) {
			err = j.request(ctx, ex)
		}
		if client.IgnoreNotFound(err) != nil {
			j.Unobserved.add(namespace, j.Clock.Now().Add(retryObservability))
			errs = append(errs, fmt.Errorf("namespace %s: %w", namespace, err))
		}
	}
	return errors.Join(errs...)
}

// request requests a reconciliation of an Extension. A conflict means that something else happens to it.
func (j *Janitor) request(ctx context.Context, ex *extensionsv1alpha1.Extension) error {
	patch := client.MergeFromWithOptions(ex.DeepCopy(), client.MergeFromWithOptimisticLock{})
	metav1.SetMetaDataAnnotation(&ex.ObjectMeta, v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile)
	if err := j.Client.Patch(ctx, ex, patch); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("request reconciliation of the Extension: %w", err)
	}
	return nil
}

// isIdle reports whether an Extension succeeded and no operation is requested. A failed one is retried anyway.
func isIdle(ex *extensionsv1alpha1.Extension) bool {
	_, busy := ex.Annotations[v1beta1constants.GardenerOperation]
	last := ex.Status.LastOperation
	return !busy && ex.DeletionTimestamp == nil && last != nil && last.State == gardencorev1beta1.LastOperationStateSucceeded
}

// remove deletes a ManagedResource with all Services, unless it was changed meanwhile, as by a new Extension. Its
// Secret is garbage-collected.
func (j *Janitor) remove(ctx context.Context, managedResource *metav1.PartialObjectMetadata) error {
	j.Log.Info("Removing unused Services", "namespace", managedResource.Namespace)
	object := newManagedResource(managedResource.Namespace, managedResource.Name)
	err := j.Client.Delete(ctx, object, client.Preconditions{UID: &managedResource.UID, ResourceVersion: &managedResource.ResourceVersion})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete ManagedResource %s: %w", managedResource.Name, err)
	}
	return nil
}
