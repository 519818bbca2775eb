// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package nodewebhook adds caches to OperatingSystemConfigs with the extension's webhook.
package nodewebhook

import (
	"context"
	"encoding/json"
	"fmt"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/apis/registry"
	registrycodec "github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/webhook/osc"
	"github.com/larder-project/larder/test/pki"
)

// Namespace is the namespace of the Shoot in the seed.
const Namespace = "shoot--dev--example"

// Cache is a cache with TLS.
type Cache struct {
	Upstream  string
	RemoteURL string
	Endpoint  string
	// Authority issues the certificate of the cache, and that of nodes in the mode Nodes.
	Authority *pki.Authority
	Mode      registry.AccessMode
}

// NewOSC returns an OperatingSystemConfig before the webhooks.
func NewOSC() *extensionsv1alpha1.OperatingSystemConfig {
	return &extensionsv1alpha1.OperatingSystemConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "pool"},
		Spec: extensionsv1alpha1.OperatingSystemConfigSpec{
			Purpose: extensionsv1alpha1.OperatingSystemConfigPurposeReconcile,
			CRIConfig: &extensionsv1alpha1.CRIConfig{
				Name:       extensionsv1alpha1.CRINameContainerD,
				Containerd: &extensionsv1alpha1.ContainerdConfig{SandboxImage: "registry.example.com/pause:1"},
			},
		},
	}
}

// AddTo adds the cache to an OperatingSystemConfig.
func (c Cache) AddTo(ctx context.Context, object *extensionsv1alpha1.OperatingSystemConfig) error {
	shoot, err := json.Marshal(&gardencorev1beta1.Shoot{TypeMeta: metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"}})
	if err != nil {
		return err
	}
	decoder, err := registrycodec.New()
	if err != nil {
		return err
	}
	registryStatus := &registry.RegistryStatus{
		CASecretName: new("caches-ca"),
		Caches:       []registry.RegistryCacheStatus{{Upstream: c.Upstream, Endpoint: c.Endpoint, RemoteURL: c.RemoteURL, AccessMode: c.Mode}},
	}
	objects := []client.Object{
		&extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: Namespace}, Spec: extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: shoot}}},
		newSecret("caches-ca", map[string][]byte{"bundle.crt": c.Authority.Certificate}),
	}
	if c.Mode == registry.AccessNodes {
		pair, err := c.Authority.Issue(pki.Request{CommonName: "registry-cache-node"})
		if err != nil {
			return fmt.Errorf("issue certificate of nodes: %w", err)
		}
		registryStatus.NodeCertificateSecretName = new("node")
		objects = append(objects, newSecret("node", map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key}))
	}
	status, err := decoder.EncodeStatus(registryStatus)
	if err != nil {
		return err
	}
	objects = append(objects, &extensionsv1alpha1.Extension{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: registry.ExtensionType},
		Status:     extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{ProviderStatus: status}},
	})
	seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(objects...).Build()
	mutator := &osc.Mutator{Reader: seed, Source: osc.Caches{Codec: decoder}}
	return mutator.Mutate(ctx, object, nil)
}

func newSecret(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name}, Data: data}
}
