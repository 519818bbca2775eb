// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"context"
	"fmt"
	"net/url"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

// caBundlePath is the path of the CA certificates of the caches on the nodes.
const caBundlePath = certificatesDirectory + "ca-bundle.pem"

// Caches provides the configuration for caches. Its input is the provider status of the Extension.
type Caches struct {
	// Codec decodes the provider status.
	Codec *codec.Codec
}

// ExtensionType implements [Source].
func (Caches) ExtensionType() string { return registry.ExtensionType }

// needed is false for hibernated Shoots: caches sleep with them, and their status may be missing.
func (Caches) needed(cluster *extensionscontroller.Cluster) bool {
	return !extensionscontroller.IsHibernationEnabled(cluster)
}

func (c Caches) nodeConfig(ctx context.Context, reader client.Reader, _ *extensionscontroller.Cluster, ex *extensionsv1alpha1.Extension) (nodeConfig, error) {
	status, err := c.Codec.DecodeStatus(ex.Status.ProviderStatus)
	if err != nil {
		return nodeConfig{}, fmt.Errorf("decode provider status of Extension %s/%s, without which the nodes would lose their registry caches: %w", ex.Namespace, ex.Name, err)
	}
	caBundle, err := readCABundle(ctx, reader, ex.Namespace, status)
	if err != nil {
		return nodeConfig{}, err
	}
	return configForCaches(status, caBundle)
}

// readCABundle returns the CA certificates of the caches, or nil if no cache serves TLS.
func readCABundle(ctx context.Context, reader client.Reader, namespace string, status *registry.RegistryStatus) ([]byte, error) {
	if status.CASecretName == nil {
		return nil, nil
	}
	secret := &corev1.Secret{}
	if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: *status.CASecretName}, secret); err != nil {
		return nil, fmt.Errorf("read Secret %s/%s with the CA certificates of the registry caches: %w", namespace, *status.CASecretName, err)
	}
	caBundle := secret.Data[secretsutils.DataKeyCertificateBundle]
	if len(caBundle) == 0 {
		return nil, fmt.Errorf("no CA certificates of the registry caches in Secret %s/%s under the key %s", namespace, *status.CASecretName, secretsutils.DataKeyCertificateBundle)
	}
	return caBundle, nil
}

// configForCaches derives the configuration of a node from the status of the Extension.
func configForCaches(status *registry.RegistryStatus, caBundle []byte) (nodeConfig, error) {
	config := nodeConfig{contributor: cachesContributor, other: mirrorsContributor}
	for _, cache := range status.Caches {
		endpoint, err := url.Parse(cache.Endpoint)
		if err != nil || endpoint.Host == "" {
			return nodeConfig{}, fmt.Errorf("endpoint %q of the registry cache for %s is not a URL", cache.Endpoint, cache.Upstream)
		}
		host := extensionsv1alpha1.RegistryHost{
			URL:          cache.Endpoint,
			Capabilities: []extensionsv1alpha1.RegistryCapability{extensionsv1alpha1.PullCapability, extensionsv1alpha1.ResolveCapability},
		}
		if endpoint.Scheme == "https" {
			if len(caBundle) == 0 {
				return nodeConfig{}, fmt.Errorf("registry cache for %s serves TLS, but the status names no Secret with its CA certificates", cache.Upstream)
			}
			host.CACerts = []string{caBundlePath}
			config.addFile(caBundlePath, caBundle)
		}
		config.registries = append(config.registries, extensionsv1alpha1.RegistryConfig{
			Upstream: cache.Upstream,
			Server:   new(cache.RemoteURL),
			Hosts:    []extensionsv1alpha1.RegistryHost{host},
			// The node agent configures containerd to use the cache once it is ready: in a new cluster, the pods of the caches
			// need nodes, so nodes must not wait for the caches. See merge.go for entries with other hosts.
			ReadinessProbe: new(true),
		})
	}
	config.sort()
	return config, nil
}
