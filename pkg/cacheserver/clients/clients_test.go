// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/clients"
	"github.com/larder-project/larder/pkg/upstream"
)

// hostsFile has the fields of hosts.toml that a cache needs.
type hostsFile struct {
	Server string              `toml:"server"`
	Host   map[string]hostFile `toml:"host"`
}

type hostFile struct {
	Capabilities []string `toml:"capabilities"`
}

// registriesFile has the fields of registries.conf, version 2, that a cache needs.
type registriesFile struct {
	Registry []registryFile `toml:"registry"`
}

type registryFile struct {
	Location string       `toml:"location"`
	Insecure bool         `toml:"insecure"`
	Mirror   []mirrorFile `toml:"mirror"`
}

type mirrorFile struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
}

var _ = Describe("Cache", func() {
	cache := func(registry, address string) clients.Cache {
		GinkgoHelper()
		parsed, remoteURL, err := upstream.Parse(registry)
		Expect(err).NotTo(HaveOccurred())
		return clients.Cache{Upstream: parsed, RemoteURL: remoteURL, Address: netip.MustParseAddrPort(address)}
	}

	DescribeTable("renders a guide for a cache of", func(golden, registry, address string) {
		guide := cache(registry, address).Guide()
		golden = filepath.Join("testdata", golden+".txt")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			Expect(os.MkdirAll("testdata", 0o755)).To(Succeed())
			Expect(os.WriteFile(golden, []byte(guide), 0o644)).To(Succeed())
		}
		expected, err := os.ReadFile(golden)
		Expect(err).NotTo(HaveOccurred())
		Expect(guide).To(Equal(string(expected)))
	},
		Entry("Docker Hub", "docker-hub", "registry-1.docker.io", "127.0.0.1:5000"),
		Entry("Docker Hub beyond this machine", "docker-hub-beyond", "docker.io", "192.0.2.1:5000"),
		Entry("another registry", "other", "ghcr.io", "127.0.0.1:5001"),
		Entry("another registry beyond this machine", "other-beyond", "ghcr.io", "192.0.2.1:5000"),
		Entry("a registry with a port and plain HTTP, by IPv6", "plain-http", "http://registry.example.com:5000", "[::1]:5000"),
	)

	DescribeTable("renders files that clients can parse", func(registry, address, host, remoteURL string, daemon map[string][]string) {
		c := cache(registry, address)
		plainHTTP := strings.HasPrefix(remoteURL, "http://")

		hosts := c.ContainerdHosts()
		Expect(hosts.Path).To(Equal("/etc/containerd/certs.d/" + host + "/hosts.toml"))
		var hostsContent hostsFile
		decode(hosts.Content, &hostsContent)
		Expect(hostsContent).To(Equal(hostsFile{
			Server: remoteURL,
			Host:   map[string]hostFile{"http://" + address: {Capabilities: []string{"pull", "resolve"}}},
		}))

		registries := c.PodmanRegistries()
		Expect(registries.Path).To(HavePrefix("/etc/containers/registries.conf.d/"))
		Expect(registries.Path).To(HaveSuffix(".conf"))
		var registriesContent registriesFile
		decode(registries.Content, &registriesContent)
		Expect(registriesContent).To(Equal(registriesFile{Registry: []registryFile{{
			Location: host, Insecure: plainHTTP, Mirror: []mirrorFile{{Location: address, Insecure: true}},
		}}}))

		if daemon == nil {
			Expect(c.DockerDaemon()).To(BeZero())
			return
		}
		var daemonContent map[string][]string
		Expect(json.Unmarshal([]byte(c.DockerDaemon().Content), &daemonContent)).To(Succeed())
		Expect(daemonContent).To(Equal(daemon))
	},
		Entry("for Docker Hub", "docker.io", "127.0.0.1:5000", "docker.io", "https://registry-1.docker.io",
			map[string][]string{"registry-mirrors": {"http://127.0.0.1:5000"}}),
		Entry("for Docker Hub beyond this machine", "index.docker.io", "192.0.2.1:5000", "docker.io", "https://registry-1.docker.io",
			map[string][]string{"registry-mirrors": {"http://192.0.2.1:5000"}}),
		Entry("for another registry", "https://ghcr.io/", "127.0.0.2:80", "ghcr.io", "https://ghcr.io", nil),
		Entry("for another registry, by IPv6", "ghcr.io", "[::1]:5000", "ghcr.io", "https://ghcr.io", nil),
		Entry("for another registry beyond this machine", "ghcr.io", "[2001:db8::1]:5000", "ghcr.io", "https://ghcr.io",
			map[string][]string{"insecure-registries": {"[2001:db8::1]:5000"}}),
		Entry("for a registry with a port and plain HTTP", "http://registry:5000", "127.0.0.1:5000", "registry:5000", "http://registry:5000", nil),
		Entry("for a registry by its IPv6 address", "http://[2001:db8::2]:5000", "127.0.0.1:5000", "[2001:db8::2]:5000", "http://[2001:db8::2]:5000", nil),
	)
})

// decode decodes TOML strictly.
func decode(content string, target any) {
	GinkgoHelper()
	decoded, err := toml.Decode(content, target)
	Expect(err).NotTo(HaveOccurred())
	Expect(decoded.Undecoded()).To(BeEmpty())
}
