// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package mirror is the controller of Extensions of type registry-mirror. Mirrors need no objects: the webhook of package
// osc derives the configuration of the nodes from the Extension and from the Secrets that it references. This controller
// validates both first. gardenlet waits for it before it writes the OperatingSystemConfigs, so that an owner learns what
// is wrong with a Secret from the status of the Shoot, and nodes keep their configuration until it is right.
package mirror

import (
	"context"
	"fmt"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/controller/extension"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/reference"
)

// AddToManager adds the controller.
func AddToManager(ctx context.Context, mgr manager.Manager, options extension.Options) error {
	uncached, err := extension.NewClient(mgr)
	if err != nil {
		return err
	}
	codec, err := codec.New()
	if err != nil {
		return err
	}
	actuator := &Actuator{Client: uncached, Codec: codec, CopyTimeout: extension.CopyTimeout}
	return extension.Add(ctx, mgr, mirror.ExtensionType, actuator, options)
}

// Actuator reconciles Extensions of type registry-mirror.
type Actuator struct {
	// Client is an uncached client for the seed.
	Client client.Client
	// Codec decodes the provider configuration.
	Codec *codec.Codec
	// CopyTimeout bounds the wait until the Secrets that a Shoot references are copied to the seed.
	CopyTimeout time.Duration
}

// Reconcile validates what the nodes will be configured with. All problems are returned at once.
func (a *Actuator) Reconcile(ctx context.Context, _ logr.Logger, ex *extensionsv1alpha1.Extension) error {
	return excerpt.Error(a.reconcile(ctx, ex), problem.MaxError)
}

func (a *Actuator) reconcile(ctx context.Context, ex *extensionsv1alpha1.Extension) error {
	cluster, err := extension.ReadCluster(ctx, a.Client, ex.Namespace)
	if err != nil {
		return fmt.Errorf("read Cluster: %w", err)
	}
	config, err := a.Codec.DecodeConfig(ex.Spec.ProviderConfig)
	if err != nil {
		return problem.Configuration(fmt.Errorf("decode providerConfig of extension %s: %w", ex.Spec.Type, err))
	}
	secrets := reference.Reader{Client: a.Client, Namespace: ex.Namespace, Shoot: cluster.Shoot}
	references := caReferences(config)
	// Do not wait again after a failed wait; a few such Extensions would starve the rest.
	if ex.Status.LastError == nil {
		entries := make([]string, 0, len(references))
		for _, ca := range references {
			entries = append(entries, ca.entry)
		}
		if err := secrets.Await(ctx, a.CopyTimeout, entries); err != nil {
			return err
		}
	}
	var problems []error
	for _, ca := range references {
		if _, err := secrets.CABundle(ctx, ca.entry); err != nil {
			problems = append(problems, fmt.Errorf("mirror of %s: %w", ca.upstream, err))
		}
	}
	return problem.Join(problems)
}

// caReference is a reference to the Secret with the CA bundle of a mirror.
type caReference struct {
	// upstream is the upstream of the mirror. The URL of the mirror is not part of errors: before it was validated, it may
	// have contained a password.
	upstream string
	// entry is the entry of spec.resources that references the Secret.
	entry string
}

// caReferences returns the first reference to each entry of spec.resources.
func caReferences(config *mirror.MirrorConfig) []caReference {
	var references []caReference
	seen := map[string]bool{}
	for _, m := range config.Mirrors {
		for _, host := range m.Hosts {
			if entry := host.CABundleSecretReferenceName; entry != nil && !seen[*entry] {
				seen[*entry] = true
				references = append(references, caReference{upstream: m.Upstream, entry: *entry})
			}
		}
	}
	return references
}

// Restore validates the configuration in the new seed.
func (a *Actuator) Restore(ctx context.Context, log logr.Logger, ex *extensionsv1alpha1.Extension) error {
	return a.Reconcile(ctx, log, ex)
}

// Delete does nothing: gardenlet writes the OperatingSystemConfigs without mirrors.
func (*Actuator) Delete(context.Context, logr.Logger, *extensionsv1alpha1.Extension) error {
	return nil
}

// ForceDelete does nothing, like Delete.
func (*Actuator) ForceDelete(context.Context, logr.Logger, *extensionsv1alpha1.Extension) error {
	return nil
}

// Migrate does nothing: there is no state.
func (*Actuator) Migrate(context.Context, logr.Logger, *extensionsv1alpha1.Extension) error {
	return nil
}
