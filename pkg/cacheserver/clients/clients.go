// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package clients renders the settings of container runtimes for a cache that serves plain HTTP.
package clients

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/larder-project/larder/pkg/upstream"
)

// Cache is a cache as its clients know it.
type Cache struct {
	Upstream upstream.Upstream
	// RemoteURL is the upstream's URL, to which clients fall back when the cache does not respond.
	RemoteURL string
	// Address is the address of the cache.
	Address netip.AddrPort
}

// File is a configuration file of a client. The zero value means that the client needs none.
type File struct {
	Path    string
	Content string
}

// ContainerdHosts returns the hosts.toml that makes containerd try the cache before the upstream.
func (c Cache) ContainerdHosts() File {
	return File{
		Path: "/etc/containerd/certs.d/" + string(c.Upstream) + "/hosts.toml",
		Content: fmt.Sprintf(`server = %q

[host.%q]
  capabilities = ["pull", "resolve"]
`, c.RemoteURL, c.url()),
	}
}

// DockerDaemon returns the daemon.json that makes Docker try the cache before Docker Hub. Docker cannot mirror other
// registries; their images are pulled by the address of the cache. Without TLS, Docker accepts only loopback addresses
// and those in that file.
func (c Cache) DockerDaemon() File {
	settings := map[string][]string{}
	switch {
	case c.Upstream.IsDockerHub():
		settings["registry-mirrors"] = []string{c.url()}
	case !c.Address.Addr().IsLoopback():
		settings["insecure-registries"] = []string{c.Address.String()}
	default:
		return File{}
	}
	content, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		panic(err) // Strings can always be marshaled.
	}
	return File{Path: "/etc/docker/daemon.json", Content: string(content) + "\n"}
}

// PodmanRegistries returns the part of registries.conf that makes Podman, Buildah and CRI-O try the cache before the
// upstream.
func (c Cache) PodmanRegistries() File {
	insecure := ""
	if strings.HasPrefix(c.RemoteURL, "http://") {
		insecure = "insecure = true\n"
	}
	return File{
		Path: "/etc/containers/registries.conf.d/" + c.Upstream.LabelValue() + ".conf",
		Content: fmt.Sprintf(`[[registry]]
location = %q
%s
[[registry.mirror]]
location = %q
insecure = true
`, string(c.Upstream), insecure, c.Address.String()),
	}
}

// ManifestURL returns the URL of a manifest. For Docker Hub, it is one that exists; for others, it has placeholders.
func (c Cache) ManifestURL() string {
	repository, tag := "REPOSITORY", "TAG"
	if c.Upstream.IsDockerHub() {
		repository, tag = "library/alpine", "latest"
	}
	return c.url() + "/v2/" + repository + "/manifests/" + tag
}

// Guide renders all settings for the user, each with the path of its file, and a command to try the cache.
func (c Cache) Guide() string {
	var out strings.Builder
	write := func(comment, content string) {
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		for line := range strings.Lines(comment) {
			out.WriteString("# " + line)
		}
		out.WriteString("\n" + content)
	}

	hosts := c.ContainerdHosts()
	write("containerd: "+hosts.Path+"\n(before containerd 2.0, its config.toml has to set config_path to /etc/containerd/certs.d)", hosts.Content)

	daemon := c.DockerDaemon()
	if daemon.Content != "" {
		write("Docker: add this to "+daemon.Path+", and restart Docker", daemon.Content)
	}
	if !c.Upstream.IsDockerHub() {
		write("Docker can mirror Docker Hub only: put the address of the cache in place of "+string(c.Upstream),
			"docker pull "+c.Address.String()+"/REPOSITORY:TAG\n")
	}

	registries := c.PodmanRegistries()
	write("Podman: "+registries.Path, registries.Content)

	try := "curl " + strconv.Quote(c.ManifestURL()) + "\n"
	if c.Upstream.IsDockerHub() {
		write("Try it:", try)
	} else {
		write("Try it with an image of yours:", try)
	}
	return out.String()
}

func (c Cache) url() string { return "http://" + c.Address.String() }
