// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"time"

	extensionsconfigv1alpha1 "github.com/gardener/gardener/extensions/pkg/apis/config/v1alpha1"
	"github.com/gardener/gardener/extensions/pkg/controller/healthcheck"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/extension"
	"github.com/larder-project/larder/pkg/controller/health"
)

// retryTimeout suffices for the wait for referenced Secrets and for the next resync of gardener-resource-manager.
const retryTimeout = 45 * time.Second

// Options configure the controllers.
type Options struct {
	extension.Options
	// HealthCheckController are the options of the health check controller.
	HealthCheckController controller.Options
	// HealthCheck configures the health checks.
	HealthCheck extensionsconfigv1alpha1.HealthCheckConfig
}

// AddToManager adds the controllers of the caches and of their health.
func AddToManager(ctx context.Context, mgr manager.Manager, options Options) error {
	actuator, err := newActuator(mgr)
	if err != nil {
		return err
	}
	if err := extension.Add(ctx, mgr, registry.ExtensionType, actuator, options.Options); err != nil {
		return err
	}
	options.Controller.RateLimiter = extension.BackOff() // Controllers must not share a rate limiter.
	if err := health.AddToManager(mgr, health.Options{
		Controller:       options.Controller,
		Client:           actuator.Client,
		ManagedResource:  ManagedResource,
		ExtensionClasses: options.ExtensionClasses,
	}); err != nil {
		return fmt.Errorf("add controller %s: %w", health.ControllerName, err)
	}
	if err := mgr.Add(&Janitor{Client: actuator.Client, Clock: actuator.Clock, Unobserved: &actuator.Unobserved, Log: mgr.GetLogger().WithName("registry-cache-janitor")}); err != nil {
		return fmt.Errorf("add janitor of %s: %w", registry.ExtensionType, err)
	}
	if err := addHealthCheck(mgr, actuator.Codec, options); err != nil {
		return fmt.Errorf("add health check of %s: %w", registry.ExtensionType, err)
	}
	return nil
}

func newActuator(mgr manager.Manager) (*Actuator, error) {
	uncached, err := extension.NewClient(mgr)
	if err != nil {
		return nil, err
	}
	codec, err := codec.New()
	if err != nil {
		return nil, err
	}
	images, err := imagevector.ImageVector()
	if err != nil {
		return nil, err
	}
	return &Actuator{
		Client:       uncached,
		Codec:        codec,
		Images:       images,
		Clock:        clock.RealClock{},
		Recorder:     mgr.GetEventRecorder(registry.ExtensionType),
		CopyTimeout:  extension.CopyTimeout,
		RetryTimeout: retryTimeout,
	}, nil
}

// addHealthCheck makes the health of the caches part of the health of the Shoot's system components.
func addHealthCheck(mgr manager.Manager, codec *codec.Codec, options Options) error {
	checks := []healthcheck.ConditionTypeToHealthCheck{{
		ConditionType: string(gardencorev1beta1.ShootSystemComponentsHealthy),
		HealthCheck: &health.Check{
			Client: mgr.GetClient(), Codec: codec, Clock: clock.RealClock{},
			ManagedResources: requiredManagedResourceNames(), OptionalManagedResources: []string{ManagedResourcePullSecrets},
		},
	}}

	newExtension := func() extensionsv1alpha1.Object { return &extensionsv1alpha1.Extension{} }
	kind := extensionsv1alpha1.SchemeGroupVersion.WithKind(extensionsv1alpha1.ExtensionResource)
	args := healthcheck.AddArgs{
		ControllerOptions: options.HealthCheckController,
		// Check on status changes, so that the owner sees the result of a credential rotation at once.
		Predicates:              []predicate.Predicate{predicate.Or(predicate.GenerationChangedPredicate{}, health.StatusChanged())},
		Type:                    registry.ExtensionType,
		ExtensionClasses:        options.ExtensionClasses,
		SyncPeriod:              options.HealthCheck.SyncPeriod,
		GetExtensionObjListFunc: func() client.ObjectList { return &extensionsv1alpha1.ExtensionList{} },
	}
	args.ControllerOptions.RecoverPanic = new(true)
	if err := args.RegisterExtension(newExtension, []string{string(gardencorev1beta1.ShootSystemComponentsHealthy)}, kind, nil); err != nil {
		return err
	}
	return healthcheck.Register(extension.SkipUnchanged(mgr), args, healthcheck.NewActuator(
		mgr, registry.ExtensionType, kind.Kind, newExtension, checks, ptr.Deref(options.HealthCheck.ShootRESTOptions, extensionsconfigv1alpha1.RESTOptions{}), options.ExtensionClasses,
	))
}
