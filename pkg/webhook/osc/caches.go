// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"slices"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

const (
	// caBundlePath is the path of the CA certificates of the caches on the nodes.
	caBundlePath = certificatesDirectory + "ca-bundle.pem"
	// clientPath is the path of the certificate and the key that containerd presents to caches. They are in one file, so
	// that containerd never reads one of them with a predecessor of the other.
	clientPath = "/etc/containerd/registry-cache-client.pem"
)

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
	clientCertificate, err := readClientCertificate(ctx, reader, ex.Namespace, status)
	if err != nil {
		return nodeConfig{}, err
	}
	return configForCaches(status, caBundle, clientCertificate)
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

// readClientCertificate returns the client certificate of the nodes with its key, or nil if there is none.
func readClientCertificate(ctx context.Context, reader client.Reader, namespace string, status *registry.RegistryStatus) ([]byte, error) {
	if status.NodeCertificateSecretName == nil {
		return nil, nil
	}
	secret := &corev1.Secret{}
	if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: *status.NodeCertificateSecretName}, secret); err != nil {
		return nil, fmt.Errorf("read Secret %s/%s with the client certificate for the registry caches: %w", namespace, *status.NodeCertificateSecretName, err)
	}
	certificate, key := secret.Data[secretsutils.DataKeyCertificate], secret.Data[secretsutils.DataKeyPrivateKey]
	// Containerd fails pulls if it cannot use the file.
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		return nil, fmt.Errorf("parse client certificate for the registry caches in Secret %s/%s: %w", namespace, *status.NodeCertificateSecretName, err)
	}
	return slices.Concat(bytes.TrimSpace(certificate), []byte("\n"), bytes.TrimSpace(key), []byte("\n")), nil
}

// configForCaches derives the configuration of a node from the status of the Extension, the CA certificates of the
// caches and the client certificate of the nodes.
func configForCaches(status *registry.RegistryStatus, caBundle, clientCertificate []byte) (nodeConfig, error) {
	config := nodeConfig{contributor: cachesContributor, other: mirrorsContributor, connections: map[string]connection{}}
	for _, cache := range status.Caches {
		endpoint, err := url.Parse(cache.Endpoint)
		if err != nil || endpoint.Host == "" {
			return nodeConfig{}, fmt.Errorf("endpoint %q of the registry cache for %s is not a URL", cache.Endpoint, cache.Upstream)
		}
		host := extensionsv1alpha1.RegistryHost{
			URL:          cache.Endpoint,
			Capabilities: []extensionsv1alpha1.RegistryCapability{extensionsv1alpha1.PullCapability, extensionsv1alpha1.ResolveCapability},
		}
		connection := connection{dialTimeout: dialTimeout}
		if podsNeedCredential(cache) {
			connection.dialTimeout = patientDialTimeout
		}
		if endpoint.Scheme == "https" {
			if len(caBundle) == 0 {
				return nodeConfig{}, fmt.Errorf("registry cache for %s serves TLS, but the status names no Secret with its CA certificates", cache.Upstream)
			}
			host.CACerts = []string{caBundlePath}
			config.addFile(caBundlePath, filePermissions, caBundle)
			// A cache asks for the certificate only in the mode Nodes, before which all nodes must present it.
			if len(clientCertificate) > 0 {
				config.addFile(clientPath, secretPermissions, clientCertificate)
				connection.client = clientPath
			}
		}
		if cache.AccessMode == registry.AccessNodes && len(clientCertificate) == 0 {
			return nodeConfig{}, fmt.Errorf("registry cache for %s is only for nodes, but the status names no Secret with their client certificate", cache.Upstream)
		}
		config.connections[cache.Upstream] = connection
		config.registries = append(config.registries, extensionsv1alpha1.RegistryConfig{
			Upstream: cache.Upstream,
			Server:   new(cache.RemoteURL),
			Hosts:    []extensionsv1alpha1.RegistryHost{host},
		})
	}
	config.sort()
	return config, nil
}

// podsNeedCredential reports whether pods rely on a credential of the cache: the upstream would refuse them. In the
// mode PullSecrets, they have their own. See Options.maxHang in pkg/cacheserver/pullthrough, which must agree.
func podsNeedCredential(cache registry.RegistryCacheStatus) bool {
	return (cache.Credentials != nil || len(cache.RepositoryCredentials) > 0) && cache.AccessMode != registry.AccessPullSecrets
}
