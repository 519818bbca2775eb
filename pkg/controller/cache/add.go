// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"time"

	extensionsconfigv1alpha1 "github.com/gardener/gardener/extensions/pkg/apis/config/v1alpha1"
	"github.com/gardener/gardener/extensions/pkg/controller/extension"
	"github.com/gardener/gardener/extensions/pkg/controller/healthcheck"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/rotation"
)

const (
	// ControllerName is the name of the controller.
	ControllerName = "registry-cache"
	// finalizerSuffix is part of the finalizer on Extensions.
	finalizerSuffix = "registry-cache"

	// copyTimeout is shorter than the 30 s for which gardenlet tolerates an error.
	copyTimeout = 20 * time.Second
	// retryTimeout leaves time for copyTimeout and for the next resync of gardener-resource-manager.
	retryTimeout = 45 * time.Second

	minBackOff = 100 * time.Millisecond
	maxBackOff = 15 * time.Second
)

// Options configure the controllers.
type Options struct {
	// Controller are the options of the controller.
	Controller controller.Options
	// HealthCheckController are the options of the health check controller.
	HealthCheckController controller.Options
	// HealthCheck configures the health checks.
	HealthCheck extensionsconfigv1alpha1.HealthCheckConfig
	// IgnoreOperationAnnotation makes the controller reconcile on every change of an Extension, not only on gardenlet's
	// request.
	IgnoreOperationAnnotation bool
	// ExtensionClasses are the classes of Extensions to reconcile.
	ExtensionClasses []extensionsv1alpha1.ExtensionClass
}

// AddToManager adds the controllers of the caches, of their credentials and of their health.
func AddToManager(ctx context.Context, mgr manager.Manager, options Options) error {
	actuator, err := newActuator(mgr)
	if err != nil {
		return err
	}
	options.Controller.RateLimiter = backOff()
	if err := extension.Add(mgr, extension.AddArgs{
		Actuator:                  actuator,
		Name:                      ControllerName,
		FinalizerSuffix:           finalizerSuffix,
		ControllerOptions:         options.Controller,
		Predicates:                predicates(ctx, mgr, options.IgnoreOperationAnnotation),
		Type:                      registry.ExtensionType,
		IgnoreOperationAnnotation: options.IgnoreOperationAnnotation,
		ExtensionClasses:          options.ExtensionClasses,
	}); err != nil {
		return fmt.Errorf("add controller %s: %w", ControllerName, err)
	}
	options.Controller.RateLimiter = backOff() // Controllers must not share a rate limiter.
	if err := rotation.AddToManager(mgr, rotation.Options{
		Controller:       options.Controller,
		Client:           actuator.Client,
		ExtensionClasses: options.ExtensionClasses,
	}); err != nil {
		return fmt.Errorf("add controller %s: %w", rotation.ControllerName, err)
	}
	if err := mgr.Add(&Janitor{Client: actuator.Client, Log: mgr.GetLogger().WithName("registry-cache-janitor")}); err != nil {
		return fmt.Errorf("add janitor of %s: %w", ControllerName, err)
	}
	if err := addHealthCheck(mgr, actuator.Codec, options); err != nil {
		return fmt.Errorf("add health check of %s: %w", ControllerName, err)
	}
	return nil
}

// predicates admits Extensions whose operation annotation requests a reconciliation and, if ignoreOperationAnnotation
// is set, all other changes. Package rotation requests reconciliations by the annotation in any case.
func predicates(ctx context.Context, mgr manager.Manager, ignoreOperationAnnotation bool) []predicate.Predicate {
	requested := extension.DefaultPredicates(ctx, mgr, false)
	if !ignoreOperationAnnotation {
		return requested
	}
	changed := extension.DefaultPredicates(ctx, mgr, true)
	return []predicate.Predicate{predicate.Or(predicate.And(requested...), predicate.And(changed...))}
}

// backOff returns a rate limiter whose delays stay below the 30 s for which gardenlet tolerates an error. When a Shoot
// references another Secret, gardener-resource-manager copies it only after it has removed the old copy, seconds after
// the reconciliation of the Extension. A longer delay after earlier errors would fail a Shoot that its owner has just
// repaired.
func backOff() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackOff, maxBackOff)
}

func newActuator(mgr manager.Manager) (*Actuator, error) {
	uncached, err := client.New(mgr.GetConfig(), client.Options{
		HTTPClient: mgr.GetHTTPClient(),
		Scheme:     mgr.GetScheme(),
		Mapper:     mgr.GetRESTMapper(),
	})
	if err != nil {
		return nil, fmt.Errorf("create client for the seed: %w", err)
	}
	codec, err := codec.New()
	if err != nil {
		return nil, err
	}
	images, err := imagevector.ImageVector()
	if err != nil {
		return nil, err
	}
	return &Actuator{Client: uncached, Codec: codec, Images: images, Clock: clock.RealClock{}, CopyTimeout: copyTimeout, RetryTimeout: retryTimeout}, nil
}

// addHealthCheck makes the health of the caches part of the health of the Shoot's system components.
func addHealthCheck(mgr manager.Manager, codec *codec.Codec, options Options) error {
	names := managedResourceNames()
	checks := make([]healthcheck.ConditionTypeToHealthCheck, 0, len(names)+1)
	for _, name := range names {
		checks = append(checks, healthcheck.ConditionTypeToHealthCheck{
			ConditionType: string(gardencorev1beta1.ShootSystemComponentsHealthy),
			HealthCheck:   newManagedResourceCheck(name),
		})
	}
	checks = append(checks, healthcheck.ConditionTypeToHealthCheck{
		ConditionType: string(gardencorev1beta1.ShootSystemComponentsHealthy),
		HealthCheck:   &rotation.HealthCheck{Reader: mgr.GetClient(), Codec: codec},
	})

	newExtension := func() extensionsv1alpha1.Object { return &extensionsv1alpha1.Extension{} }
	kind := extensionsv1alpha1.SchemeGroupVersion.WithKind(extensionsv1alpha1.ExtensionResource)
	args := healthcheck.AddArgs{
		ControllerOptions: options.HealthCheckController,
		// Check on status changes, so that the owner sees the result of a credential rotation at once.
		Predicates:              []predicate.Predicate{predicate.Or(predicate.GenerationChangedPredicate{}, rotation.StatusChanged())},
		Type:                    registry.ExtensionType,
		ExtensionClasses:        options.ExtensionClasses,
		SyncPeriod:              options.HealthCheck.SyncPeriod,
		GetExtensionObjListFunc: func() client.ObjectList { return &extensionsv1alpha1.ExtensionList{} },
	}
	args.ControllerOptions.RecoverPanic = new(true)
	if err := args.RegisterExtension(newExtension, []string{string(gardencorev1beta1.ShootSystemComponentsHealthy)}, kind, nil); err != nil {
		return err
	}
	return healthcheck.Register(mgr, args, healthcheck.NewActuator(
		mgr, registry.ExtensionType, kind.Kind, newExtension, checks, ptr.Deref(options.HealthCheck.ShootRESTOptions, extensionsconfigv1alpha1.RESTOptions{}), options.ExtensionClasses,
	))
}
