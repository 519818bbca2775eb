// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"os"

	extensionscmdcontroller "github.com/gardener/gardener/extensions/pkg/controller/cmd"
	"github.com/gardener/gardener/extensions/pkg/controller/heartbeat"
	heartbeatcmd "github.com/gardener/gardener/extensions/pkg/controller/heartbeat/cmd"
	webhookcmd "github.com/gardener/gardener/extensions/pkg/webhook/cmd"
	"github.com/spf13/pflag"
	"k8s.io/utils/clock"

	configv1alpha1 "github.com/larder-project/larder/pkg/apis/config/v1alpha1"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/cache"
	"github.com/larder-project/larder/pkg/controller/extension"
	"github.com/larder-project/larder/pkg/webhook/osc"
)

// options are the flags of the Gardener extension library for extensions.
type options struct {
	rest                  *extensionscmdcontroller.RESTOptions
	manager               *extensionscmdcontroller.ManagerOptions
	general               *extensionscmdcontroller.GeneralOptions
	controller            *extensionscmdcontroller.ControllerOptions
	healthCheckController *extensionscmdcontroller.ControllerOptions
	reconciler            *extensionscmdcontroller.ReconcilerOptions
	heartbeat             *heartbeatcmd.Options
	webhook               *webhookcmd.AddToManagerOptions
	config                *configOption
}

func newOptions() *options {
	general := &extensionscmdcontroller.GeneralOptions{}
	return &options{
		rest: &extensionscmdcontroller.RESTOptions{},
		manager: &extensionscmdcontroller.ManagerOptions{
			LeaderElection:          true,
			LeaderElectionID:        extensionscmdcontroller.LeaderElectionNameID(Name),
			LeaderElectionNamespace: os.Getenv("LEADER_ELECTION_NAMESPACE"),
			WebhookServerPort:       10250,
			WebhookCertDir:          "/tmp/gardener-extensions-cert",
		},
		general:               general,
		controller:            &extensionscmdcontroller.ControllerOptions{MaxConcurrentReconciles: 10},
		healthCheckController: &extensionscmdcontroller.ControllerOptions{MaxConcurrentReconciles: 5},
		reconciler:            &extensionscmdcontroller.ReconcilerOptions{},
		heartbeat: &heartbeatcmd.Options{
			ExtensionName: Name,
			Namespace:     os.Getenv("LEADER_ELECTION_NAMESPACE"),
		},
		webhook: webhookcmd.NewAddToManagerOptions(
			registry.ExtensionType,
			"", nil, // There are no webhooks in Shoots.
			general,
			&webhookcmd.ServerOptions{ServicePort: 443, Namespace: os.Getenv("WEBHOOK_CONFIG_NAMESPACE")},
			webhookcmd.NewSwitchOptions(
				webhookcmd.Switch(osc.CachesName, osc.NewForCaches),
				webhookcmd.Switch(osc.MirrorsName, osc.NewForMirrors),
			),
		),
		config: &configOption{},
	}
}

func (o *options) aggregated() extensionscmdcontroller.Option {
	return new(extensionscmdcontroller.NewOptionAggregator(
		o.config,
		o.rest,
		o.manager,
		o.controller,
		extensionscmdcontroller.PrefixOption("healthcheck-", o.healthCheckController),
		extensionscmdcontroller.PrefixOption("heartbeat-", o.heartbeat),
		o.reconciler,
		o.webhook, // This includes the general options.
	))
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	o.aggregated().AddFlags(fs)
}

func (o *options) complete() error {
	if err := o.heartbeat.Validate(); err != nil {
		return err
	}
	return o.aggregated().Complete()
}

func (o *options) cache() cache.Options {
	return cache.Options{
		Options:               o.extension(),
		HealthCheckController: o.healthCheckController.Completed().Options(),
		HealthCheck:           *o.config.completed.HealthCheckConfig,
	}
}

// extension returns the options that the controllers of all extension types share.
func (o *options) extension() extension.Options {
	return extension.Options{
		Controller:                o.controller.Completed().Options(),
		IgnoreOperationAnnotation: o.reconciler.Completed().IgnoreOperationAnnotation,
		ExtensionClasses:          o.general.Completed().ExtensionClasses,
	}
}

func (o *options) heartbeatArgs() heartbeat.AddArgs {
	completed := o.heartbeat.Completed()
	return heartbeat.AddArgs{
		ExtensionName:        completed.ExtensionName,
		Namespace:            completed.Namespace,
		RenewIntervalSeconds: completed.RenewIntervalSeconds,
		Clock:                clock.RealClock{},
	}
}

// configOption is the flag for the configuration file.
type configOption struct {
	file      string
	completed *configv1alpha1.Configuration
}

func (c *configOption) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.file, "config", "", "The configuration file, kind Configuration of "+configv1alpha1.SchemeGroupVersion.String()+".")
}

func (c *configOption) Complete() error {
	if c.file == "" {
		return errors.New("--config must name the configuration file")
	}
	var err error
	c.completed, err = configv1alpha1.Load(c.file)
	return err
}
