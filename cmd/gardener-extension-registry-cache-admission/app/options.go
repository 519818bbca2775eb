// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"

	extensionscmdcontroller "github.com/gardener/gardener/extensions/pkg/controller/cmd"
	webhookcmd "github.com/gardener/gardener/extensions/pkg/webhook/cmd"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/larder-project/larder/pkg/admission/secret"
	"github.com/larder-project/larder/pkg/admission/shoot"
)

// componentName is Name without the prefix that the extension library adds.
const componentName = "registry-cache-admission"

// options are the flags: those of the Gardener extension library for admission components, and one of our own.
type options struct {
	rest    *extensionscmdcontroller.RESTOptions
	manager *extensionscmdcontroller.ManagerOptions
	webhook *webhookcmd.AddToManagerOptions
	clients *clientAuthentication
	// inCluster returns the client configuration for the cluster in which the program runs.
	inCluster func() (*rest.Config, error)
}

func newOptions() *options {
	return &options{
		rest: &extensionscmdcontroller.RESTOptions{},
		manager: &extensionscmdcontroller.ManagerOptions{
			LeaderElection:          true,
			LeaderElectionID:        extensionscmdcontroller.LeaderElectionNameID(Name),
			LeaderElectionNamespace: os.Getenv("LEADER_ELECTION_NAMESPACE"),
			WebhookServerPort:       10250,
			WebhookCertDir:          "/tmp/gardener-extensions-cert",
		},
		webhook: webhookcmd.NewAddToManagerOptions(
			componentName,
			"", nil, // There are no webhooks in Shoots.
			nil,
			&webhookcmd.ServerOptions{ServicePort: 443, Namespace: os.Getenv("WEBHOOK_CONFIG_NAMESPACE")},
			webhookcmd.NewSwitchOptions(
				webhookcmd.Switch(shoot.Name, shoot.New),
				webhookcmd.Switch(secret.Name, secret.New),
				webhookcmd.Switch(secret.UnmarkedName, secret.NewUnmarked),
			),
		),
		clients:   &clientAuthentication{},
		inCluster: rest.InClusterConfig,
	}
}

func (o *options) aggregated() extensionscmdcontroller.Option {
	return new(extensionscmdcontroller.NewOptionAggregator(o.rest, o.manager, o.webhook, o.clients))
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	o.aggregated().AddFlags(fs)
}

// complete completes the options. The environment variable of gardener-operator takes precedence for the garden
// cluster.
func (o *options) complete() error {
	if kubeconfig := os.Getenv(v1beta1constants.EnvGenericGardenKubeconfig); kubeconfig != "" {
		o.rest.Kubeconfig = kubeconfig
	}
	return o.aggregated().Complete()
}

// webhookServer returns the library's webhook server with authentication of its clients.
func (o *options) webhookServer() *webhook.DefaultServer {
	config := o.manager.Completed()
	return &webhook.DefaultServer{Options: webhook.Options{
		Host:    config.WebhookServerHost,
		Port:    config.WebhookServerPort,
		CertDir: config.WebhookCertDir,
		TLSOpts: []func(*tls.Config){o.clients.configure},
	}}
}

// clusters returns the client configurations for the garden cluster, which has the Shoots, the Secrets and the webhook
// configuration, and for the source cluster, in which this program runs and keeps its certificates and lease. The
// latter is nil if it is the garden cluster, or if the program runs outside a cluster.
func (o *options) clusters() (garden, source *rest.Config, err error) {
	garden = o.rest.Completed().Config
	source, err = o.inCluster()
	if err != nil && !errors.Is(err, rest.ErrNotInCluster) {
		return nil, nil, fmt.Errorf("detect the source cluster: %w", err)
	}
	if source != nil && source.Host == garden.Host {
		source = nil
	}
	for _, config := range []*rest.Config{garden, source} {
		if config != nil {
			// The API server has API priority and fairness. Client-side throttling would only delay owners and let
			// reviews time out.
			config.QPS = -1
		}
	}
	return garden, source, nil
}
