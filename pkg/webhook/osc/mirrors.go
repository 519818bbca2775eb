// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/reference"
	"github.com/larder-project/larder/pkg/upstream"
)

// mirrorCAPrefix is the start of the paths of the CA bundles of mirrors on the nodes. A hash of the content follows.
//
// So two bundles never have the same path, whatever the hosts and upstreams are called, and a path never changes its
// content: when a bundle is rotated, the node agent first writes the new file, then the hosts.toml that refers to it, and
// finally removes the old file.
const mirrorCAPrefix = certificatesDirectory + "registry-mirror-ca-"

// Mirrors provides the configuration for mirrors. Its input is the provider configuration of the Extension, and the
// Secrets that it references. There is no provider status, since the owner writes all that nodes need.
type Mirrors struct {
	// Codec decodes the provider configuration.
	Codec *codec.Codec
}

// ExtensionType implements [Source].
func (Mirrors) ExtensionType() string { return mirror.ExtensionType }

// needed is also true for hibernated Shoots: nodes still run while a Shoot falls asleep, and pods that move meanwhile may
// depend on a mirror, which does not sleep with the Shoot.
func (Mirrors) needed(*extensionscontroller.Cluster) bool { return true }

func (m Mirrors) nodeConfig(ctx context.Context, reader client.Reader, cluster *extensionscontroller.Cluster, ex *extensionsv1alpha1.Extension) (nodeConfig, error) {
	config, err := m.Codec.DecodeConfig(ex.Spec.ProviderConfig)
	if err != nil {
		return nodeConfig{}, fmt.Errorf("decode providerConfig of Extension %s/%s, without which the nodes would lose their registry mirrors: %w", ex.Namespace, ex.Name, err)
	}
	secrets := reference.Reader{Client: reader, Namespace: ex.Namespace, Shoot: cluster.Shoot}
	caBundles := map[string][]byte{}
	for _, mirror := range config.Mirrors {
		for _, host := range mirror.Hosts {
			entry := host.CABundleSecretReferenceName
			if entry == nil || caBundles[*entry] != nil {
				continue
			}
			if caBundles[*entry], err = secrets.CABundle(ctx, *entry); err != nil {
				return nodeConfig{}, fmt.Errorf("read CA bundle, without which the nodes would lose their registry mirrors: %w", err)
			}
		}
	}
	return configForMirrors(config, caBundles)
}

// configForMirrors derives the configuration of a node from the configuration of the owner and the CA bundles by the
// entries of spec.resources that reference them.
func configForMirrors(mirrors *mirror.MirrorConfig, caBundles map[string][]byte) (nodeConfig, error) {
	config := nodeConfig{contributor: mirrorsContributor, other: cachesContributor}
	for _, m := range mirrors.Mirrors {
		registryConfig := extensionsv1alpha1.RegistryConfig{
			Upstream: m.Upstream,
			Server:   new(upstream.Upstream(m.Upstream).DefaultRemoteURL()),
			// See merge.go for why there is no readiness probe.
		}
		for _, host := range m.Hosts {
			// Containerd fails all pulls from an upstream whose hosts it cannot parse.
			if parsed, err := url.Parse(host.Host); err != nil || parsed.Host == "" {
				return nodeConfig{}, fmt.Errorf("a host of the registry mirror for %s is not a URL", m.Upstream)
			}
			registryHost := extensionsv1alpha1.RegistryHost{URL: host.Host, OverridePath: host.OverridePath}
			for _, capability := range host.Capabilities {
				registryHost.Capabilities = append(registryHost.Capabilities, extensionsv1alpha1.RegistryCapability(capability))
			}
			if entry := host.CABundleSecretReferenceName; entry != nil {
				path := mirrorCAPath(caBundles[*entry])
				registryHost.CACerts = []string{path}
				config.addFile(path, filePermissions, caBundles[*entry])
			}
			registryConfig.Hosts = append(registryConfig.Hosts, registryHost)
		}
		config.registries = append(config.registries, registryConfig)
	}
	config.sort()
	return config, nil
}

func mirrorCAPath(caBundle []byte) string {
	sum := sha256.Sum256(caBundle)
	return mirrorCAPrefix + hex.EncodeToString(sum[:16]) + ".pem"
}
