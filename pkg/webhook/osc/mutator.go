// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"context"
	"fmt"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	extensionsv1alpha1helper "github.com/gardener/gardener/pkg/api/extensions/v1alpha1/helper"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Mutator adds the configuration of one extension to OperatingSystemConfigs.
type Mutator struct {
	// Reader reads from the API server of the seed, not from a cache.
	Reader client.Reader
	// Source provides the configuration.
	Source Source
}

// Source provides the configuration that an extension adds to nodes.
type Source interface {
	// ExtensionType is the type of the extension, and the name of its Extension.
	ExtensionType() string
	// needed reports whether the nodes of a Shoot that is not in deletion need the configuration.
	needed(*extensionscontroller.Cluster) bool
	// nodeConfig returns the configuration for the nodes of a Shoot. It is an error if an input is missing.
	nodeConfig(context.Context, client.Reader, *extensionscontroller.Cluster, *extensionsv1alpha1.Extension) (nodeConfig, error)
}

// Mutate implements the Mutator interface of the extension library.
func (m *Mutator) Mutate(ctx context.Context, newObj, _ client.Object) error {
	osc, ok := newObj.(*extensionsv1alpha1.OperatingSystemConfig)
	if !ok {
		return fmt.Errorf("unexpected object of type %T, must be an OperatingSystemConfig", newObj)
	}
	if !concernsNodes(osc) {
		return nil
	}

	cluster, err := extensionscontroller.GetCluster(ctx, m.Reader, osc.Namespace)
	if err != nil {
		return fmt.Errorf("read Cluster %s: %w", osc.Namespace, err)
	}
	if cluster.Shoot.DeletionTimestamp != nil || !m.Source.needed(cluster) {
		return nil
	}

	extension := &extensionsv1alpha1.Extension{}
	if err := m.Reader.Get(ctx, client.ObjectKey{Namespace: osc.Namespace, Name: m.Source.ExtensionType()}, extension); err != nil {
		return fmt.Errorf("read Extension %s/%s, which has the containerd registries of the nodes: %w", osc.Namespace, m.Source.ExtensionType(), err)
	}
	if extension.DeletionTimestamp != nil {
		return nil
	}
	config, err := m.Source.nodeConfig(ctx, m.Reader, cluster, extension)
	if err != nil {
		return err
	}
	return config.addTo(osc)
}

// concernsNodes reports whether the OperatingSystemConfig configures containerd on running nodes. Gardener refuses a
// containerd configuration without a sandbox image, so the webhook does not add one where there is none.
func concernsNodes(osc *extensionsv1alpha1.OperatingSystemConfig) bool {
	return osc.DeletionTimestamp == nil &&
		osc.Spec.Purpose == extensionsv1alpha1.OperatingSystemConfigPurposeReconcile &&
		extensionsv1alpha1helper.HasContainerdConfiguration(osc.Spec.CRIConfig)
}
