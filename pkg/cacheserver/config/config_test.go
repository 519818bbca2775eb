// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/config"
)

var _ = Describe("Config", func() {
	DescribeTable("renders", func(name string, c config.Config) {
		rendered, err := c.Marshal()
		Expect(err).NotTo(HaveOccurred())
		Expect(config.ParseAccess(rendered)).To(Equal(c.Access))

		golden := filepath.Join("testdata", name+".yaml")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			Expect(os.MkdirAll("testdata", 0o755)).To(Succeed())
			Expect(os.WriteFile(golden, rendered, 0o644)).To(Succeed())
		}
		expected, err := os.ReadFile(golden)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(rendered)).To(Equal(string(expected)))
	},
		Entry("an anonymous cache that keeps content forever", "anonymous", config.Config{
			RemoteURL: "https://registry-1.docker.io",
		}),
		Entry("a private upstream behind TLS", "private-tls", config.Config{
			RemoteURL:            "https://private.example.com:5443",
			TTL:                  168 * time.Hour,
			CredentialsDirectory: "/etc/distribution/credentials",
			TLS: &config.TLSFiles{
				CertificateFile: "/etc/distribution/tls/tls.crt",
				KeyFile:         "/etc/distribution/tls/tls.key",
			},
		}),
		Entry("an upstream with a private CA, client certificates, a proxy, a token server and slow responses", "connection", config.Config{
			RemoteURL: "https://private.example.com",
			Connection: config.Connection{
				CABundleFile:      "/etc/distribution/connection/bundle.crt",
				ClientCertificate: &config.TLSFiles{CertificateFile: "/etc/distribution/connection/tls.crt", KeyFile: "/etc/distribution/connection/tls.key"},
				ProxyUsernameFile: "/etc/distribution/connection/proxy-username", ProxyPasswordFile: "/etc/distribution/connection/proxy-password",
			},
			AllowedRealms: []string{"auth.example.org", "null"},
			FirstByte:     new(2 * time.Minute),
		}),
		Entry("credentials for some repositories", "repositories", config.Config{
			RemoteURL: "https://private.example.com",
			RepositoryCredentials: []config.RepositoryCredential{
				{Directory: "/etc/distribution/credentials", Prefix: "repositories-0123456789.", Repositories: []string{"team-a", "team-b/app"}},
			},
		}),
		Entry("restricted access", "access", config.Config{
			RemoteURL: "https://private.example.com",
			TLS:       &config.TLSFiles{CertificateFile: "/tls/tls.crt", KeyFile: "/tls/tls.key"},
			Access: &config.Access{
				Mode: config.AccessNodes, GrantDuration: new(time.Minute), OutageGrantDuration: new(time.Hour),
				ClientCAFile: "/access/ca.crt", AccountsFile: "/access/accounts.json", DebugTokenFile: "/access/debug-token",
			},
		}),
		Entry("a cache on a user's machine", "local", config.Config{
			RemoteURL: "https://registry-1.docker.io",
			TTL:       168 * time.Hour,
			Local:     &config.Local{Address: "127.0.0.1:5000", Directory: "/home/john/.cache/registry-cache-server/docker.io", MaxDiskUse: 90},
		}),
		Entry("a cache on a user's machine with a status page", "local-status", config.Config{
			RemoteURL: "https://registry-1.docker.io",
			Local:     local(func(l *config.Local) { l.StatusAddress = "127.0.0.1:5001" }),
		}),
	)

	It("is parsed by Distribution", func() {
		parsed := parse(config.Config{
			RemoteURL: "https://private.example.com",
			TTL:       90 * time.Minute,
			TLS:       &config.TLSFiles{CertificateFile: "/tls/tls.crt", KeyFile: "/tls/tls.key"},
		})

		Expect(parsed.Storage.Type()).To(Equal("filesystem"))
		Expect(parsed.Storage.Parameters()).To(HaveKeyWithValue("rootdirectory", config.StorageRoot))
		Expect(parsed.Storage).NotTo(HaveKey("delete"), "clients must not delete content")
		Expect(parsed.HTTP.Addr).To(Equal(":5000"))
		Expect(parsed.HTTP.TLS.Certificate).To(Equal("/tls/tls.crt"))
		Expect(parsed.HTTP.TLS.Key).To(Equal("/tls/tls.key"))
		Expect(parsed.HTTP.DrainTimeout).To(Equal(config.DrainTimeout))
		Expect(parsed.HTTP.Debug.Addr).To(Equal(":5001"))
		Expect(parsed.HTTP.Debug.Prometheus.Enabled).To(BeTrue())
		Expect(parsed.HTTP.Debug.Prometheus.Path).To(Equal("/metrics"))
		Expect(parsed.Health.StorageDriver.Enabled).To(BeTrue())
		Expect(parsed.Proxy.RemoteURL).To(Equal("https://private.example.com"))
		Expect(parsed.Middleware).To(BeEmpty())
		Expect(parsed.Proxy.TTL).To(HaveValue(Equal(90 * time.Minute)))
	})

	It("renders a TTL of 0, since an absent one means seven days", func() {
		Expect(parse(config.Config{RemoteURL: "http://example.com"}).Proxy.TTL).To(HaveValue(BeZero()))
	})

	It("passes the directory of the credential to the engine, and no credential", func() {
		parsed := parse(config.Config{RemoteURL: "https://example.com", CredentialsDirectory: "/etc/distribution/credentials"})
		Expect(parsed.Middleware).To(HaveKeyWithValue("registry", ConsistOf(configuration.Middleware{
			Name: "pullthrough", Options: configuration.Parameters{"credentials": "/etc/distribution/credentials"},
		})))
		Expect(parsed.Proxy.RemoteURL).To(Equal("https://example.com"))
	})

	It("sets both validation timeouts, so that the upstream's pace does not matter", func() {
		parsed := parse(config.Config{RemoteURL: "https://example.com", TagValidation: new(time.Duration(0))})
		Expect(parsed.Middleware).To(HaveKeyWithValue("registry", ConsistOf(configuration.Middleware{
			Name: "pullthrough", Options: configuration.Parameters{"validationtimeout": "0s", "suspecttimeout": "0s"},
		})))
	})

	It("does not let a fetch end earlier than by default if the upstream is fast", func() {
		parsed := parse(config.Config{RemoteURL: "https://example.com", FirstByte: new(time.Second)})
		Expect(parsed.Middleware["registry"][0].Options).To(HaveKeyWithValue("graceperiod", "10s"))
	})

	DescribeTable("refuses", func(mutate func(*config.Config), message string) {
		c := config.Config{RemoteURL: "https://example.com"}
		mutate(&c)
		_, err := c.Marshal()
		Expect(err).To(MatchError(ContainSubstring(message)))
		Expect(err.Error()).NotTo(ContainSubstring("s3cret"))
	},
		Entry("no remote URL", func(c *config.Config) { c.RemoteURL = "" }, "must begin with https:// or http://"),
		Entry("another scheme", func(c *config.Config) { c.RemoteURL = "ftp://example.com" }, "must begin with https:// or http://"),
		Entry("user info", func(c *config.Config) { c.RemoteURL = "https://u:s3cret@example.com" }, "must not contain a user name or password"),
		Entry("user info in an invalid URL", func(c *config.Config) { c.RemoteURL = "https://u:s3cret@exa mple.com" }, "must be a URL such as"),
		Entry("a negative TTL", func(c *config.Config) { c.TTL = -time.Second }, "must not be negative"),
		Entry("a negative timeout", func(c *config.Config) { c.TagValidation = new(-time.Second) }, "must not be negative"),
		Entry("restricted access without TLS", func(c *config.Config) { c.Access = &config.Access{Mode: config.AccessPullSecrets} }, "restricted access needs TLS"),
		Entry("an unknown mode of access", func(c *config.Config) {
			c.TLS, c.Access = &config.TLSFiles{CertificateFile: "/tls.crt", KeyFile: "/tls.key"}, &config.Access{Mode: "Anyone"}
		}, "access.mode must be"),
		Entry("access of nodes without authorities", func(c *config.Config) {
			c.TLS, c.Access = &config.TLSFiles{CertificateFile: "/tls.crt", KeyFile: "/tls.key"}, &config.Access{Mode: config.AccessNodes}
		}, "access.clientcafile must be set for the mode Nodes"),
		Entry("a certificate without a key", func(c *config.Config) { c.TLS = &config.TLSFiles{CertificateFile: "/tls.crt"} }, "both a certificate file and a key file"),
		Entry("no time for the first byte", func(c *config.Config) { c.FirstByte = new(time.Duration(0)) }, "must be positive"),
		Entry("a client certificate without a key", func(c *config.Config) {
			c.Connection.ClientCertificate = &config.TLSFiles{CertificateFile: "/tls.crt"}
		}, "both a certificate file and a key file"),
		Entry("a user name for proxies without a password", func(c *config.Config) { c.Connection.ProxyUsernameFile = "/username" }, "both a user name and a password"),
		Entry("no port", func(c *config.Config) { c.Local = local(func(l *config.Local) { l.Address = "127.0.0.1" }) }, "must be [host]:port"),
		Entry("a status address without a port", func(c *config.Config) { c.Local = local(func(l *config.Local) { l.StatusAddress = "127.0.0.1" }) }, "status address \"127.0.0.1\" must be [host]:port"),
		Entry("a relative directory", func(c *config.Config) { c.Local = local(func(l *config.Local) { l.Directory = "cache" }) }, "must be an absolute path"),
		Entry("a limit of 0 percent of the disk", func(c *config.Config) { c.Local = local(func(l *config.Local) { l.MaxDiskUse = 0 }) }, "must be from 1 to 100"),
		Entry("a limit above 100 percent of the disk", func(c *config.Config) { c.Local = local(func(l *config.Local) { l.MaxDiskUse = 101 }) }, "must be from 1 to 100"),
	)
})

func local(change func(*config.Local)) *config.Local {
	l := &config.Local{Address: "127.0.0.1:5000", Directory: "/cache", MaxDiskUse: 90}
	change(l)
	return l
}

func parse(c config.Config) *configuration.Configuration {
	GinkgoHelper()
	rendered, err := c.Marshal()
	Expect(err).NotTo(HaveOccurred())
	parsed, err := configuration.Parse(bytes.NewReader(rendered))
	Expect(err).NotTo(HaveOccurred())
	return parsed
}
