// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package webhooks serves the webhooks of a program, registers them, and manages their certificates.
//
// The extension library's AddToManager does the same, but has three problems: it does not allow changes to its
// registration, it gives up after five seconds, and its concurrent registration and certificate renewal read from the
// cluster into the same object.
package webhooks

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	extensionswebhook "github.com/gardener/gardener/extensions/pkg/webhook"
	"github.com/gardener/gardener/extensions/pkg/webhook/certificates"
	webhookcmd "github.com/gardener/gardener/extensions/pkg/webhook/cmd"
	"github.com/gardener/gardener/pkg/utils/retry"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// registrationTimeout limits the retries of the registration. After that, the program exits.
const registrationTimeout = 30 * time.Second

// Webhooks are the webhooks of a program.
type Webhooks struct {
	// Component is the name of the registration and the certificates without the prefix that the library adds.
	Component string
	// Config configures the webhooks and their addresses.
	Config *webhookcmd.AddToManagerConfig
	// SourceCluster is the cluster with the certificates; nil for the manager's cluster.
	SourceCluster cluster.Cluster
	// Adjust changes each validating webhook before its registration; may be nil.
	Adjust func(*admissionregistrationv1.ValidatingWebhook)
	// AdjustMutating changes each mutating webhook before its registration; may be nil.
	AdjustMutating func(*admissionregistrationv1.MutatingWebhook)
	// Protect wraps the handler of each webhook; may be nil.
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
		return fmt.Errorf("unexpected webhook server of type %T", mgr.GetWebhookServer())
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
		// Without a namespace, certificates cannot be stored. This is for development only.
		caBundle, err := certificates.GenerateUnmanagedCertificates(w.Component, false, server.Options.CertDir, config.Mode, config.URL)
		if err != nil {
			return fmt.Errorf("generate certificates: %w", err)
		}
		if err := mgr.Add(register(mgr, configs, config.OwnerNamespace, caBundle)); err != nil {
			return err
		}
		return watchCertificate(mgr, server)
	}
	if err := mgr.Add(register(mgr, configs, config.OwnerNamespace, nil)); err != nil {
		return err
	}
	if err := certificates.AddCertificateManagementToManager(
		ctx, mgr, w.SourceCluster, clock.RealClock{},
		configs, nil, nil, nil, "", // There are no webhooks in Shoots.
		w.Component, false, config.Namespace, config.Mode, config.URL,
	); err != nil {
		return err
	}
	return watchCertificate(mgr, server)
}

// watchCertificate makes the server present the certificate that the library has written, and follow its renewals. The
// server would read the files itself when it starts, but at that time the library writes them again, in place, and the
// program would exit if a file is incomplete. A watch keeps the previous certificate until both files are complete.
func watchCertificate(mgr manager.Manager, server *webhook.DefaultServer) error {
	directory := server.Options.CertDir
	watcher, err := certwatcher.New(filepath.Join(directory, secretsutils.DataKeyCertificate), filepath.Join(directory, secretsutils.DataKeyPrivateKey))
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	server.Options.TLSOpts = append(server.Options.TLSOpts, func(config *tls.Config) { config.GetCertificate = watcher.GetCertificate })
	return mgr.Add(watcher)
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
		return extensionswebhook.Configs{}, fmt.Errorf("build webhook configuration: %w", err)
	}
	// The library returns them in random order.
	if config := configs.MutatingWebhookConfig; config != nil {
		slices.SortFunc(config.Webhooks, func(a, b admissionregistrationv1.MutatingWebhook) int { return strings.Compare(a.Name, b.Name) })
		for i := range config.Webhooks {
			if w.AdjustMutating != nil {
				w.AdjustMutating(&config.Webhooks[i])
			}
		}
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

// register returns a runnable that creates or updates the webhook configurations as the leader. Without a CA bundle,
// the existing one stays, and the reconciler of the certificates renews it. The reconciler runs at the same time and
// the library reads from the cluster into the given object, so each of the two has its own copy.
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
				return fmt.Errorf("register webhooks: %w", err)
			}
		}
		return nil
	}
}
