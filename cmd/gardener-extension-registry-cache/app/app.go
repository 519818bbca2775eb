// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package app is the command line of gardener-extension-registry-cache.
package app

import (
	"context"
	"fmt"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	"github.com/gardener/gardener/extensions/pkg/controller/heartbeat"
	gardenerhealthz "github.com/gardener/gardener/pkg/healthz"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/component-base/version"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/larder-project/larder/cmd/internal/webhooks"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/cache"
	"github.com/larder-project/larder/pkg/controller/mirror"
	"github.com/larder-project/larder/pkg/webhook/osc"
)

// Name is the name of the program, of its webhook configuration and of its Service.
const Name = "gardener-extension-registry-cache"

// NewCommand returns the command that runs the extension.
func NewCommand() *cobra.Command {
	options := newOptions()
	cmd := &cobra.Command{
		Use:   Name,
		Short: "Run pull-through registry caches in the Shoots of a seed, and configure their nodes to use caches and mirrors",
		Args:  cobra.NoArgs,
		// The build sets the version.
		Version: version.Get().GitVersion,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Flags are valid; don't print usage for runtime errors.
			cmd.SilenceUsage = true
			if err := options.complete(); err != nil {
				return err
			}
			return run(cmd.Context(), options)
		},
	}
	options.addFlags(cmd.Flags())
	return cmd
}

func run(ctx context.Context, options *options) error {
	scheme, err := newScheme()
	if err != nil {
		return fmt.Errorf("build scheme: %w", err)
	}
	managerOptions := options.manager.Completed().Options()
	managerOptions.Scheme = scheme
	managerOptions.Cache = cacheOptions()
	managerOptions.Client = clientOptions()
	// The program ends with its manager, so another process can take over at once when this one is stopped.
	managerOptions.LeaderElectionReleaseOnCancel = true
	log.SetLogger(managerOptions.Logger)
	log.Log.Info("Starting", "name", Name, "version", version.Get().GitVersion)

	config := options.rest.Completed().Config
	// The API server has its own fairness. client-go's limit of 5 requests per second for each kind would slow down the
	// reconciliation of even one Shoot.
	config.QPS = -1
	mgr, err := manager.New(config, managerOptions)
	if err != nil {
		return fmt.Errorf("create manager: %w", err)
	}
	if err := addChecks(mgr); err != nil {
		return fmt.Errorf("add health and readiness checks: %w", err)
	}
	if err := cache.AddToManager(ctx, mgr, options.cache()); err != nil {
		return err
	}
	if err := mirror.AddToManager(ctx, mgr, options.extension()); err != nil {
		return err
	}
	if err := heartbeat.Add(mgr, options.heartbeatArgs()); err != nil {
		return fmt.Errorf("add heartbeat: %w", err)
	}
	if err := (webhooks.Webhooks{
		Component: registry.ExtensionType, Config: options.webhook.Completed(), AdjustMutating: osc.Adjust,
	}).AddToManager(ctx, mgr); err != nil {
		return fmt.Errorf("add webhooks: %w", err)
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run manager: %w", err)
	}
	return nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	for _, add := range []func(*runtime.Scheme) error{extensionscontroller.AddToScheme, monitoringv1.AddToScheme, monitoringv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

func addChecks(mgr manager.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	informersSynced := gardenerhealthz.NewCacheSyncHealthzWithDeadline(mgr.GetLogger(), clock.RealClock{}, mgr.GetCache(), gardenerhealthz.DefaultCacheSyncDeadline)
	if err := mgr.AddHealthzCheck("informer-sync", informersSynced); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("informer-sync", gardenerhealthz.NewCacheSyncHealthz(mgr.GetCache())); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("webhook-server", mgr.GetWebhookServer().StartedChecker())
}
