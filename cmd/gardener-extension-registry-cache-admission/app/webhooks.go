// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	"github.com/gardener/gardener/extensions/pkg/webhook/certificates"
	webhookcmd "github.com/gardener/gardener/extensions/pkg/webhook/cmd"
	"github.com/gardener/gardener/pkg/utils/retry"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/larder-project/larder/pkg/admission/secret"
)

// registrationTimeout is how long the registration is tried before the program gives up.
const registrationTimeout = 30 * time.Second

// addWebhooks serves the webhooks, registers them and keeps their certificates.
// The library could do all of it by AddToManager, but then it would register
// what it builds as it is, and it knows CREATE and UPDATE only.
func addWebhooks(ctx context.Context, mgr manager.Manager, sourceCluster cluster.Cluster, config *webhookcmd.AddToManagerConfig) error {
	webhooks, err := config.Switch.WebhooksFactory(mgr)
	if err != nil {
		return err
	}
	server, ok := mgr.GetWebhookServer().(*webhook.DefaultServer)
	if !ok {
		return fmt.Errorf("the webhook server is a %T", mgr.GetWebhookServer())
	}
	for _, webhook := range webhooks {
		server.Register(webhook.Path, webhook.Webhook)
	}
	configs, err := registration(mgr, webhooks, config.Server, server.Options.Port)
	if err != nil {
		return err
	}

	if config.Server.Namespace == "" {
		// Without a namespace there is no place to keep certificates in. This is for development only.
		caBundle, err := certificates.GenerateUnmanagedCertificates(componentName, false, server.Options.CertDir, config.Server.Mode, config.Server.URL)
		if err != nil {
			return fmt.Errorf("could not generate certificates: %w", err)
		}
		return mgr.Add(register(mgr, configs, config.Server.OwnerNamespace, caBundle))
	}
	if err := mgr.Add(register(mgr, configs, config.Server.OwnerNamespace, nil)); err != nil {
		return err
	}
	return certificates.AddCertificateManagementToManager(
		ctx, mgr, sourceCluster, clock.RealClock{},
		configs, nil, nil, nil, "", // There are no webhooks in Shoots.
		componentName, false, config.Server.Namespace, config.Server.Mode, config.Server.URL,
	)
}

// registration returns the webhook configuration, without a CA bundle.
func registration(mgr manager.Manager, webhooks []*extensionswebhook.Webhook, server webhookcmd.ServerConfig, port int) (extensionswebhook.Configs, error) {
	if server.Mode != extensionswebhook.ModeURL && server.ServicePort > 0 {
		port = server.ServicePort
	}
	configs, _, err := extensionswebhook.BuildWebhookConfigs(
		webhooks, mgr.GetClient(), server.Namespace, componentName, false, port, server.Mode, server.URL, nil, false)
	if err != nil {
		return extensionswebhook.Configs{}, fmt.Errorf("could not build the webhook configuration: %w", err)
	}
	if configs.ValidatingWebhookConfig == nil {
		return configs, nil
	}
	registered := configs.ValidatingWebhookConfig.Webhooks
	for i := range registered {
		if strings.HasPrefix(registered[i].Name, secret.Name+".") {
			secret.Restrict(&registered[i])
		}
	}
	// They come in an order that changes from start to start.
	slices.SortFunc(registered, func(a, b admissionregistrationv1.ValidatingWebhook) int { return strings.Compare(a.Name, b.Name) })
	return configs, nil
}

// register creates or updates the webhook configuration, as the leader. Without
// a CA bundle the one that is there stays, for the certificates' reconciler to
// renew, which runs at the same time: the library reads what is in the cluster
// into the object that it is given, so each of the two has one of its own.
func register(mgr manager.Manager, configs extensionswebhook.Configs, ownerNamespace string, caBundle []byte) manager.RunnableFunc {
	own := configs.DeepCopy()
	return func(ctx context.Context) error {
		for _, config := range own.GetWebhookConfigs() {
			if err := retry.UntilTimeout(ctx, time.Second, registrationTimeout, func(ctx context.Context) (bool, error) {
				if err := extensionswebhook.ReconcileSeedWebhookConfig(ctx, mgr.GetClient(), config, ownerNamespace, caBundle); err != nil {
					return retry.MinorError(err)
				}
				return retry.Ok()
			}); err != nil {
				return fmt.Errorf("could not register the webhooks: %w", err)
			}
		}
		return nil
	}
}
