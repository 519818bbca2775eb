// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package extension adds controllers of Extensions to a manager. It contains what the extension types share.
package extension

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gardener/gardener/extensions/pkg/controller/extension"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// CopyTimeout is how long a reconciliation waits for the Secrets that a Shoot references. It is shorter than the 30 s
	// for which gardenlet tolerates an error.
	CopyTimeout = 20 * time.Second

	minBackOff = 100 * time.Millisecond
	// MaxBackOff is the longest delay of [BackOff].
	MaxBackOff = 15 * time.Second
)

// Options configure the controller of an extension type.
type Options struct {
	// Controller are the options of the controller.
	Controller controller.Options
	// IgnoreOperationAnnotation makes the controller reconcile on every change of an Extension, not only on gardenlet's
	// request.
	IgnoreOperationAnnotation bool
	// ExtensionClasses are the classes of Extensions to reconcile.
	ExtensionClasses []extensionsv1alpha1.ExtensionClass
}

// Add adds the controller of an extension type. The type also names the controller and its finalizer.
func Add(ctx context.Context, mgr manager.Manager, extensionType string, actuator extension.Actuator, options Options) error {
	already := prometheus.AlreadyRegisteredError{}
	if err := metrics.Registry.Register(WaitingRetries); err != nil && !errors.As(err, &already) {
		return fmt.Errorf("register metrics: %w", err)
	}
	options.Controller.RateLimiter = BackOff()
	options.Controller = WithFairQueue(options.Controller)
	if err := extension.Add(mgr, extension.AddArgs{
		Actuator:                  actuator,
		Name:                      extensionType,
		FinalizerSuffix:           extensionType,
		ControllerOptions:         options.Controller,
		Predicates:                predicates(ctx, mgr, options.IgnoreOperationAnnotation),
		Type:                      extensionType,
		IgnoreOperationAnnotation: options.IgnoreOperationAnnotation,
		ExtensionClasses:          options.ExtensionClasses,
	}); err != nil {
		return fmt.Errorf("add controller %s: %w", extensionType, err)
	}
	return nil
}

// NewClient returns an uncached client for the seed: reconciliations are rare, and must not act on stale objects.
func NewClient(mgr manager.Manager) (client.Client, error) {
	uncached, err := client.New(mgr.GetConfig(), client.Options{
		HTTPClient: mgr.GetHTTPClient(),
		Scheme:     mgr.GetScheme(),
		Mapper:     mgr.GetRESTMapper(),
	})
	if err != nil {
		return nil, fmt.Errorf("create client for the seed: %w", err)
	}
	return uncached, nil
}

// predicates admit requests by annotation, and other changes if the annotation is to be ignored. Package health
// requests reconciliations by the annotation in any case.
func predicates(ctx context.Context, mgr manager.Manager, ignoreOperationAnnotation bool) []predicate.Predicate {
	requested := extension.DefaultPredicates(ctx, mgr, false)
	if !ignoreOperationAnnotation {
		return requested
	}
	changed := extension.DefaultPredicates(ctx, mgr, true)
	return []predicate.Predicate{predicate.Or(predicate.And(requested...), predicate.And(changed...))}
}

// BackOff returns a rate limiter for one controller whose delays stay below the 30 s for which gardenlet tolerates an
// error. When a Shoot references another Secret, gardener-resource-manager copies it only after it has removed the old
// copy, seconds after the reconciliation of the Extension. A longer delay after earlier errors would fail a Shoot that
// its owner has just repaired.
func BackOff() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackOff, MaxBackOff)
}
