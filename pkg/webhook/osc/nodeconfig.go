// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"

	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// caBundlePath is the path of the CA certificates of the caches on the nodes.
	caBundlePath = "/etc/containerd/certs.d/ca-bundle.pem"
	// caBundlePermissions make the certificates readable for all users of the node.
	caBundlePermissions uint32 = 0o644
)

// nodeConfig is the configuration of a node for the caches.
type nodeConfig struct {
	// registries are sorted by upstream.
	registries []extensionsv1alpha1.RegistryConfig
	// caBundle is the file with the CA certificates, nil if no cache serves TLS.
	caBundle *extensionsv1alpha1.File
}

// newNodeConfig derives the configuration of a node from the status of the Extension.
func newNodeConfig(status *registry.RegistryStatus, caBundle []byte) (nodeConfig, error) {
	var config nodeConfig
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
			config.caBundle = caBundleFile(caBundle)
		}
		config.registries = append(config.registries, extensionsv1alpha1.RegistryConfig{
			Upstream: cache.Upstream,
			Server:   new(cache.RemoteURL),
			Hosts:    []extensionsv1alpha1.RegistryHost{host},
			// The node agent configures containerd to use the cache once it is ready: in a new cluster, the pods of the
			// caches need nodes, so nodes must not wait for the caches.
			ReadinessProbe: new(true),
		})
	}
	slices.SortFunc(config.registries, func(a, b extensionsv1alpha1.RegistryConfig) int {
		return cmp.Compare(a.Upstream, b.Upstream)
	})
	return config, nil
}

func caBundleFile(caBundle []byte) *extensionsv1alpha1.File {
	return &extensionsv1alpha1.File{
		Path:        caBundlePath,
		Permissions: new(caBundlePermissions),
		Content: extensionsv1alpha1.FileContent{
			Inline: &extensionsv1alpha1.FileContentInline{
				Encoding: string(extensionsv1alpha1.B64FileCodecID),
				Data:     base64.StdEncoding.EncodeToString(caBundle),
			},
		},
	}
}

// addTo adds the configuration to an OperatingSystemConfig. Entries for other upstreams and other files keep their
// content and position.
//
// It replaces an existing entry for an upstream with a cache. Such an entry is from an earlier request, possibly with a
// stale endpoint, or from another webhook; Shoot owners cannot write one. The owner did configure the cache, so the
// cache takes precedence.
func (c nodeConfig) addTo(spec *extensionsv1alpha1.OperatingSystemConfigSpec) {
	registries := &spec.CRIConfig.Containerd.Registries
	for _, registryConfig := range c.registries {
		*registries = replaceOrAppend(*registries, registryConfig, func(existing extensionsv1alpha1.RegistryConfig) bool {
			return existing.Upstream == registryConfig.Upstream
		})
	}
	if c.caBundle != nil {
		spec.Files = replaceOrAppend(spec.Files, *c.caBundle, func(existing extensionsv1alpha1.File) bool {
			return existing.Path == caBundlePath
		})
	}
}

// replaceOrAppend replaces the first item that is the same and removes further ones, or appends the item.
func replaceOrAppend[T any](items []T, item T, same func(T) bool) []T {
	first := slices.IndexFunc(items, same)
	if first < 0 {
		return append(items, item)
	}
	items[first] = item
	return append(items[:first+1], slices.DeleteFunc(items[first+1:], same)...)
}
