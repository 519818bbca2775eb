// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package osctest plays webhooks of other extensions that configure containerd's registries.
package osctest

import (
	"maps"
	"path"
	"slices"
	"strings"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/pelletier/go-toml/v2"
)

const (
	// PeerURL is the host that [PeerToPeer] and [PeerForAll] add.
	PeerURL = "http://localhost:15500"
	// RewriterURL is the host that [Rewriter] adds.
	RewriterURL = "https://region.example.com"
	// DefaultURL is the host that [Default] adds.
	DefaultURL = "https://all.example.com"
)

// PeerToPeer configures a host on the node for all upstreams, and puts it first in every entry that exists.
func PeerToPeer(osc *extensionsv1alpha1.OperatingSystemConfig) {
	PeerForAll(osc)
	for i := range osc.Spec.CRIConfig.Containerd.Registries {
		addPeer(&osc.Spec.CRIConfig.Containerd.Registries[i])
	}
}

// PeerForAll configures the same host for all upstreams that have no entry, and leaves existing entries alone.
func PeerForAll(osc *extensionsv1alpha1.OperatingSystemConfig) {
	addPeer(entryOf(osc, "_default"))
}

func addPeer(entry *extensionsv1alpha1.RegistryConfig) {
	if !hasHost(entry, PeerURL) {
		entry.Hosts = slices.Insert(entry.Hosts, 0, extensionsv1alpha1.RegistryHost{
			URL: PeerURL, Capabilities: []extensionsv1alpha1.RegistryCapability{"pull", "resolve"},
		})
	}
}

// Rewriter configures a host of the region for docker.io, after the hosts that exist.
func Rewriter(osc *extensionsv1alpha1.OperatingSystemConfig) {
	entry := entryOf(osc, "docker.io")
	if entry.Server == nil {
		entry.Server = new("https://registry-1.docker.io")
	}
	if !hasHost(entry, RewriterURL) {
		entry.Hosts = append(entry.Hosts, extensionsv1alpha1.RegistryHost{URL: RewriterURL})
	}
}

// Default configures a host for all upstreams that have no entry. It is not on the node.
func Default(osc *extensionsv1alpha1.OperatingSystemConfig) {
	if entry := entryOf(osc, "_default"); !hasHost(entry, DefaultURL) {
		entry.Hosts = append(entry.Hosts, extensionsv1alpha1.RegistryHost{URL: DefaultURL})
	}
}

// Hosts returns the URLs of the hosts, followed by the server, by upstream: those of the entries, and those of the
// caches without an entry.
func Hosts(osc *extensionsv1alpha1.OperatingSystemConfig) map[string][]string {
	hosts := map[string][]string{}
	for _, entry := range osc.Spec.CRIConfig.Containerd.Registries {
		var urls []string
		for _, host := range entry.Hosts {
			urls = append(urls, host.URL)
		}
		if entry.Server != nil {
			urls = append(urls, "server "+*entry.Server)
		}
		// Appended, so that a second entry for an upstream shows.
		hosts[entry.Upstream] = append(hosts[entry.Upstream], urls...)
	}
	for upstream, content := range Installed(osc) {
		var file struct {
			Server string
			Host   map[string]any
		}
		if err := toml.Unmarshal([]byte(content), &file); err != nil {
			panic(err)
		}
		hosts[upstream] = append(hosts[upstream], slices.Sorted(maps.Keys(file.Host))...)
		hosts[upstream] = append(hosts[upstream], "server "+file.Server)
	}
	return hosts
}

// Installed returns each hosts.toml that the unit of the caches installs, by upstream.
func Installed(osc *extensionsv1alpha1.OperatingSystemConfig) map[string]string {
	installed := map[string]string{}
	for _, file := range osc.Spec.Files {
		upstream, ok := strings.CutSuffix(path.Base(file.Path), ".toml")
		if !ok || path.Dir(file.Path) != "/etc/containerd/registry-cache" {
			continue
		}
		installed[upstream] = file.Content.Inline.Data
	}
	return installed
}

// entryOf returns the entry of an upstream, and creates it if it does not exist.
func entryOf(osc *extensionsv1alpha1.OperatingSystemConfig, upstream string) *extensionsv1alpha1.RegistryConfig {
	registries := &osc.Spec.CRIConfig.Containerd.Registries
	i := slices.IndexFunc(*registries, func(entry extensionsv1alpha1.RegistryConfig) bool { return entry.Upstream == upstream })
	if i < 0 {
		i = len(*registries)
		*registries = append(*registries, extensionsv1alpha1.RegistryConfig{Upstream: upstream})
	}
	return &(*registries)[i]
}

func hasHost(entry *extensionsv1alpha1.RegistryConfig, url string) bool {
	return slices.ContainsFunc(entry.Hosts, func(host extensionsv1alpha1.RegistryHost) bool { return host.URL == url })
}
