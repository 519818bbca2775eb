// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/controllerutils"
	"github.com/go-logr/logr"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/component/observability"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/upstream"
)

// The objects that observe the caches are created and patched directly in the Shoot's namespace in the seed, not by a
// ManagedResource: the other implementation does the same, so a landscape can switch without two owners of one object.

// retryObservability is the delay after which a failed deployment of what observes the caches is tried again.
const retryObservability = 10 * time.Minute

// observeCaches deploys the objects that observe the caches. Caches work without them, so a failure is recorded, but does
// not fail the operation of the Shoot. The Janitor requests another reconciliation.
func (a *Actuator) observeCaches(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension, cluster *extensionscontroller.Cluster, caches []deployment) {
	err := a.deployObservability(ctx, cluster, caches)
	if err == nil {
		a.Unobserved.remove(ex.Namespace)
		return
	}
	a.Unobserved.add(ex.Namespace, a.Clock.Now().Add(retryObservability))
	log.Info("Failed to deploy what observes the caches", "error", excerpt.Line(err.Error(), problem.MaxLength))
	a.Recorder.Eventf(ex, nil, corev1.EventTypeWarning, "ObservabilityNotDeployed", "DeployObservability", "%s", excerpt.Line(
		"The metrics, alerts or dashboard of the caches are missing or outdated until a later reconciliation succeeds: "+err.Error(), problem.MaxNote))
}

// Unobserved has the namespaces of Shoots whose caches are not observed as they should be, and when to try again. It is
// not persistent: after a restart of the controller, the next reconciliation of the Shoot tries again.
type Unobserved struct {
	mu  sync.Mutex
	due map[string]time.Time
}

func (u *Unobserved) add(namespace string, due time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.due == nil {
		u.due = map[string]time.Time{}
	}
	u.due[namespace] = due
}

func (u *Unobserved) remove(namespace string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.due, namespace)
}

// take removes and returns the namespaces that are due.
func (u *Unobserved) take(now time.Time) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var due []string
	for namespace, at := range u.due {
		if !at.After(now) {
			due = append(due, namespace)
			delete(u.due, namespace)
		}
	}
	return due
}

// deployObservability deploys the objects that observe the caches, or deletes them if the purpose of the Shoot is testing:
// such a Shoot has no Prometheus.
func (a *Actuator) deployObservability(ctx context.Context, cluster *extensionscontroller.Cluster, caches []deployment) error {
	namespace := cluster.ObjectMeta.Name
	if ptr.Deref(cluster.Shoot.Spec.Purpose, "") == gardencorev1beta1.ShootPurposeTesting {
		return a.deleteObservability(ctx, namespace)
	}
	values := observability.Values{Namespace: namespace}
	for _, cache := range caches {
		values.Caches = append(values.Caches, observability.Cache{Upstream: upstream.Upstream(cache.Cache.Upstream), Replicas: cache.replicas()})
	}
	objects, err := observability.Objects(values)
	if err != nil {
		return err
	}
	var errs []error
	for _, object := range objects {
		if err := ignoreMissing(a.createOrPatch(ctx, object)); err != nil {
			errs = append(errs, fmt.Errorf("deploy %s %s: %w", a.kind(object), object.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// deleteObservability deletes the objects that observe the caches. It deletes only what exists, so that the reconciliation
// of a Shoot without these objects writes nothing.
func (a *Actuator) deleteObservability(ctx context.Context, namespace string) error {
	objects, err := observability.Objects(observability.Values{Namespace: namespace})
	if err != nil {
		return err
	}
	var errs []error
	for _, object := range objects {
		err := a.Client.Get(ctx, client.ObjectKeyFromObject(object), object)
		if err == nil {
			err = a.Client.Delete(ctx, object)
		}
		if err := ignoreMissing(err); err != nil {
			errs = append(errs, fmt.Errorf("delete %s %s: %w", a.kind(object), object.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// kind returns the kind of an object for errors.
func (a *Actuator) kind(object client.Object) string {
	kind, err := a.Client.GroupVersionKindFor(object)
	if err != nil {
		return "object"
	}
	return kind.Kind
}

// ignoreMissing ignores that an object or its kind does not exist: a seed may have no prometheus-operator.
func ignoreMissing(err error) error {
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// createOrPatch writes an object if it does not exist or differs. Other labels and annotations stay.
func (a *Actuator) createOrPatch(ctx context.Context, desired client.Object) error {
	object := desired.DeepCopyObject().(client.Object)
	_, err := controllerutils.GetAndCreateOrMergePatch(ctx, a.Client, object, func() error {
		labels := maps.Clone(object.GetLabels())
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, desired.GetLabels())
		object.SetLabels(labels)
		switch object := object.(type) {
		case *monitoringv1alpha1.ScrapeConfig:
			object.Spec = desired.(*monitoringv1alpha1.ScrapeConfig).Spec
		case *monitoringv1.PrometheusRule:
			object.Spec = desired.(*monitoringv1.PrometheusRule).Spec
		case *corev1.ConfigMap:
			object.Data = desired.(*corev1.ConfigMap).Data
		default:
			return fmt.Errorf("unexpected type %T", object)
		}
		return nil
	}, controllerutils.SkipEmptyPatch{})
	return err
}

// replicas returns the number of replicas of the cache. If it keeps its deployed objects, they decide.
func (d deployment) replicas() int32 {
	for _, object := range d.Deployed {
		if statefulSet, ok := object.(*appsv1.StatefulSet); ok {
			return ptr.Deref(statefulSet.Spec.Replicas, 1)
		}
	}
	return d.Replicas()
}
