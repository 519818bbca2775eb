// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package app is the command line of gardener-extension-registry-cache-admission.
package app

import (
	"context"
	"fmt"
	"strings"

	gardencoreinstall "github.com/gardener/gardener/pkg/apis/core/install"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	"github.com/spf13/cobra"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/component-base/version"
	"k8s.io/component-base/version/verflag"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/larder-project/larder/cmd/internal/webhooks"
	"github.com/larder-project/larder/pkg/admission/secret"
	"github.com/larder-project/larder/pkg/admission/shoot"
)

// Name is the name of the program, of its webhook configuration and of its Service.
const Name = "gardener-extension-registry-cache-admission"

// NewCommand returns the command that runs the admission component.
func NewCommand() *cobra.Command {
	options := newOptions()
	cmd := &cobra.Command{
		Use:   Name,
		Short: "Validate the caches and mirrors of Shoots and protect the Secrets that they use",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			verflag.PrintAndExitIfRequested()
			if err := options.complete(); err != nil {
				return err
			}
			// Flags are valid; don't print usage for runtime errors.
			cmd.SilenceUsage = true
			return run(cmd.Context(), options)
		},
	}
	verflag.AddFlags(cmd.Flags())
	options.addFlags(cmd.Flags())
	return cmd
}

func run(ctx context.Context, options *options) error {
	garden, source, err := options.clusters()
	if err != nil {
		return err
	}
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	managerOptions := options.manager.Completed().Options()
	managerOptions.Scheme = scheme
	managerOptions.Client = clientOptions()
	managerOptions.LeaderElectionConfig = source
	managerOptions.WebhookServer = options.webhookServer()
	log.SetLogger(managerOptions.Logger)
	log.Log.Info("Starting", "name", Name, "version", version.Get().GitVersion)

	mgr, err := manager.New(garden, managerOptions)
	if err != nil {
		return fmt.Errorf("create manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("webhook-server", mgr.GetWebhookServer().StartedChecker()); err != nil {
		return fmt.Errorf("add readiness check: %w", err)
	}

	var sourceCluster cluster.Cluster
	if source != nil {
		if sourceCluster, err = cluster.New(source, func(o *cluster.Options) { o.Client = clientOptions() }); err != nil {
			return fmt.Errorf("create client for the source cluster: %w", err)
		}
		if err := mgr.Add(sourceCluster); err != nil {
			return fmt.Errorf("add source cluster: %w", err)
		}
	}
	served := webhooks.Webhooks{
		Component: componentName, Config: options.webhook.Completed(), SourceCluster: sourceCluster,
		Adjust: adjust, Protect: options.clients.protect,
	}
	if err := served.AddToManager(ctx, mgr); err != nil {
		return fmt.Errorf("add webhooks: %w", err)
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run manager: %w", err)
	}
	return nil
}

// adjust adapts the library's registration of a webhook.
func adjust(webhook *admissionregistrationv1.ValidatingWebhook) {
	switch name, _, _ := strings.Cut(webhook.Name, "."); name {
	case secret.Name:
		secret.Restrict(webhook)
	case secret.UnmarkedName:
		secret.RestrictUnmarked(webhook)
	case shoot.Name:
		shoot.Restrict(webhook)
	}
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register Kubernetes types: %w", err)
	}
	gardencoreinstall.Install(scheme)
	if err := securityv1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("add API group security.gardener.cloud to the scheme: %w", err)
	}
	return scheme, nil
}

// clientOptions returns options that send every read to the API server. Reads are rare, and a garden has more of these
// objects than this program should keep or be allowed to list.
func clientOptions() client.Options {
	return client.Options{
		Cache: &client.CacheOptions{
			DisableFor: []client.Object{
				&corev1.Secret{},
				&corev1.Namespace{},
				&admissionregistrationv1.ValidatingWebhookConfiguration{},
			},
		},
	}
}
