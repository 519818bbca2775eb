// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package webhooks serves the webhooks of a program, registers them, and keeps
// their certificates.
//
// The extension library's AddToManager does the same. But it registers what it
// builds as it is, and gives up after five seconds; and its registration and its
// renewal of certificates, which run at the same time, both read what is in the
// cluster into the same object.
package webhooks

import (
	"context"
	"fmt"
	"net/http"
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
)

// registrationTimeout is how long the registration is tried before the program gives up.
const registrationTimeout = 30 * time.Second

// Webhooks are the webhooks of a program.
type Webhooks struct {
	// Component is the name that the registration and the certificates have, without the prefix that the library adds.
	Component string
	// Config says which webhooks there are and how they are reached.
	Config *webhookcmd.AddToManagerConfig
	// SourceCluster is where the certificates are kept; nil if that is the manager's cluster.
	SourceCluster cluster.Cluster
	// Adjust is given each validating webhook before it is registered, if it is not nil.
	Adjust func(*admissionregistrationv1.ValidatingWebhook)
	// Protect wraps the handler of each webhook, if it is not nil.
	Protect func(http.Handler) http.Handler
}

// AddToManager adds the webhooks to a manager.
func (w Webhooks) AddToManager(ctx context.Context, mgr manager.Manager) error {
	webhooks, err := w.Config.Switch.WebhooksFactory(mgr)
	if err != nil {
		return err
	}
	server, ok := mgr.GetWebhookServer().(*webhook.DefaultServer)
	if !ok {
		return fmt.Errorf("the webhook server is a %T", mgr.GetWebhookServer())
	}
	for _, webhook := range webhooks {
		var handler http.Handler = webhook.Webhook
		if w.Protect != nil {
			handler = w.Protect(handler)
		}
		server.Register("/"+strings.TrimPrefix(webhook.Path, "/"), handler)
	}
	configs, err := w.registration(mgr, webhooks, server.Options.Port)
	if err != nil {
		return err
	}

	config := w.Config.Server
	if config.Namespace == "" {
		// Without a namespace there is no place to keep certificates in. This is for development only.
		caBundle, err := certificates.GenerateUnmanagedCertificates(w.Component, false, server.Options.CertDir, config.Mode, config.URL)
		if err != nil {
			return fmt.Errorf("could not generate certificates: %w", err)
		}
		return mgr.Add(register(mgr, configs, config.OwnerNamespace, caBundle))
	}
	if err := mgr.Add(register(mgr, configs, config.OwnerNamespace, nil)); err != nil {
		return err
	}
	return certificates.AddCertificateManagementToManager(
		ctx, mgr, w.SourceCluster, clock.RealClock{},
		configs, nil, nil, nil, "", // There are no webhooks in Shoots.
		w.Component, false, config.Namespace, config.Mode, config.URL,
	)
}

// registration returns the webhook configurations, without a CA bundle.
func (w Webhooks) registration(mgr manager.Manager, webhooks []*extensionswebhook.Webhook, port int) (extensionswebhook.Configs, error) {
	server := w.Config.Server
	if server.Mode != extensionswebhook.ModeURL && server.ServicePort > 0 {
		port = server.ServicePort
	}
	configs, _, err := extensionswebhook.BuildWebhookConfigs(
		webhooks, mgr.GetClient(), server.Namespace, w.Component, false, port, server.Mode, server.URL, nil, w.Config.General.SelfHostedShootCluster)
	if err != nil {
		return extensionswebhook.Configs{}, fmt.Errorf("could not build the webhook configuration: %w", err)
	}
	// They come in an order that changes from start to start.
	if config := configs.MutatingWebhookConfig; config != nil {
		slices.SortFunc(config.Webhooks, func(a, b admissionregistrationv1.MutatingWebhook) int { return strings.Compare(a.Name, b.Name) })
	}
	if config := configs.ValidatingWebhookConfig; config != nil {
		slices.SortFunc(config.Webhooks, func(a, b admissionregistrationv1.ValidatingWebhook) int { return strings.Compare(a.Name, b.Name) })
		for i := range config.Webhooks {
			if w.Adjust != nil {
				w.Adjust(&config.Webhooks[i])
			}
		}
	}
	return configs, nil
}

// register creates or updates the webhook configurations, as the leader. Without
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
