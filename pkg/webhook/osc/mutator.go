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
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

// Mutator adds the caches to OperatingSystemConfigs.
type Mutator struct {
	// Reader reads from the API server of the seed, not from a cache.
	Reader client.Reader
	// Codec decodes the provider status of the Extension.
	Codec *codec.Codec
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
	if cluster.Shoot.DeletionTimestamp != nil || extensionscontroller.IsHibernationEnabled(cluster) {
		return nil
	}

	status, err := m.readStatus(ctx, osc.Namespace)
	if err != nil || status == nil {
		return err
	}
	caBundle, err := m.readCABundle(ctx, osc.Namespace, status)
	if err != nil {
		return err
	}

	config, err := newNodeConfig(status, caBundle)
	if err != nil {
		return err
	}
	config.addTo(&osc.Spec)
	return nil
}

// concernsNodes reports whether the OperatingSystemConfig configures containerd on running nodes. Gardener refuses a
// containerd configuration without a sandbox image, so the webhook does not add one where there is none.
func concernsNodes(osc *extensionsv1alpha1.OperatingSystemConfig) bool {
	return osc.DeletionTimestamp == nil &&
		osc.Spec.Purpose == extensionsv1alpha1.OperatingSystemConfigPurposeReconcile &&
		extensionsv1alpha1helper.HasContainerdConfiguration(osc.Spec.CRIConfig)
}

// readStatus returns the provider status of the Extension, or nil if the Extension is being deleted with its caches.
func (m *Mutator) readStatus(ctx context.Context, namespace string) (*registry.RegistryStatus, error) {
	extension := &extensionsv1alpha1.Extension{}
	if err := m.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: registry.ExtensionType}, extension); err != nil {
		return nil, fmt.Errorf("read Extension %s/%s, which has the registry caches of the nodes: %w", namespace, registry.ExtensionType, err)
	}
	if extension.DeletionTimestamp != nil {
		return nil, nil
	}
	status, err := m.Codec.DecodeStatus(extension.Status.ProviderStatus)
	if err != nil {
		return nil, fmt.Errorf("decode provider status of Extension %s/%s, without which the nodes would lose their registry caches: %w", namespace, registry.ExtensionType, err)
	}
	return status, nil
}

// readCABundle returns the CA certificates of the caches, or nil if no cache serves TLS.
func (m *Mutator) readCABundle(ctx context.Context, namespace string, status *registry.RegistryStatus) ([]byte, error) {
	if status.CASecretName == nil {
		return nil, nil
	}
	secret := &corev1.Secret{}
	if err := m.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: *status.CASecretName}, secret); err != nil {
		return nil, fmt.Errorf("read Secret %s/%s with the CA certificates of the registry caches: %w", namespace, *status.CASecretName, err)
	}
	caBundle := secret.Data[secretsutils.DataKeyCertificateBundle]
	if len(caBundle) == 0 {
		return nil, fmt.Errorf("no CA certificates of the registry caches in Secret %s/%s under the key %s", namespace, *status.CASecretName, secretsutils.DataKeyCertificateBundle)
	}
	return caBundle, nil
}
