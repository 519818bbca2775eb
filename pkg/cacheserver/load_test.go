// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver"
)

const valid = `
version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  tls: {}
proxy:
  remoteurl: https://example.com
  username: robot
  password: s3cret
`

var _ = Describe("Load", func() {
	load := func(content string) error {
		GinkgoHelper()
		path := filepath.Join(GinkgoT().TempDir(), "config.yml")
		Expect(os.WriteFile(path, []byte(content), 0o600)).To(Succeed())
		_, err := cacheserver.Load(path)
		if err != nil {
			Expect(err.Error()).To(ContainSubstring(path))
			Expect(err.Error()).NotTo(ContainSubstring("\n"))
			Expect(err.Error()).NotTo(ContainSubstring("s3c"))
		}
		return err
	}

	It("accepts a valid configuration", func() {
		Expect(load(valid)).To(Succeed())
	})

	It("accepts the example of the documentation", func() {
		document, err := os.ReadFile("../../docs/cache-server.md")
		Expect(err).NotTo(HaveOccurred())
		example := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(document)
		Expect(example).To(HaveLen(2))
		Expect(load(string(example[1]))).To(Succeed())
	})

	DescribeTable("names the field and the remedy", func(old, replacement, message string) {
		Expect(valid).To(ContainSubstring(old))
		Expect(load(strings.Replace(valid, old, replacement, 1))).To(MatchError(ContainSubstring(message)))
	},
		Entry("invalid YAML", "version: 0.1", "version: [", "yaml: line"),
		Entry("another version", "version: 0.1", "version: 1.0", `unsupported version: "1.0", set version: 0.1`),
		Entry("no storage", "storage:\n  filesystem:\n    rootdirectory: /var/lib/registry\n", "", "no storage configuration provided"),
		Entry("a storage driver that is not built in", "filesystem:", "s3:", "storage.s3: this storage driver is not built in, use filesystem"),
		Entry("a storage driver for tests", "filesystem:", "inmemory:", "storage.inmemory: this storage driver is not built in, use filesystem"),
		Entry("two storage drivers", "  filesystem:", "  inmemory: {}\n  filesystem:", "must provide exactly one storage type"),
		Entry("an access controller that is not built in", "http:", "auth: {token: {realm: x}}\nhttp:", "auth.token: this access controller is not built in"),
		Entry("no address", "addr: :5000", "addr: ''", `http.addr: "" is not an address, set [host]:port`),
		Entry("an address without a port", "addr: :5000", "addr: localhost", `http.addr: "localhost" is not an address`),
		Entry("a debug address without a port", "tls: {}", "debug: {addr: localhost}", "http.debug.addr"),
		Entry("a path for metrics that is in use", "tls: {}", "debug: {prometheus: {path: /debug/health}}", "http.debug.prometheus.path"),
		Entry("another network", "tls: {}", "net: unix", `http.net: "unix" is not supported`),
		Entry("a negative drain timeout", "tls: {}", "draintimeout: -1s", "http.draintimeout: -1s must not be negative"),
		Entry("a certificate without a key", "tls: {}", "tls: {certificate: a}", "http.tls: certificate and key belong together"),
		Entry("Let's Encrypt", "tls: {}", "tls: {letsencrypt: {cachefile: a}}", "http.tls.letsencrypt: not supported, set http.tls.certificate"),
		Entry("client certificates without TLS", "tls: {}", "tls: {clientcas: [a]}", "http.tls.clientcas"),
		Entry("an old TLS version", "tls: {}", "tls: {minimumtls: tls1.0}", `http.tls.minimumtls: "tls1.0" is not supported, set tls1.2 or tls1.3`),
		Entry("an insecure cipher suite", "tls: {}", "tls: {ciphersuites: [TLS_RSA_WITH_RC4_128_SHA]}", `http.tls.ciphersuites: "TLS_RSA_WITH_RC4_128_SHA" is unknown or insecure`),
		Entry("no upstream", "remoteurl: https://example.com", "", "proxy.remoteurl: missing"),
		Entry("an upstream without scheme", "https://example.com", "example.com", "proxy.remoteurl: must begin with https:// or http://"),
		Entry("an upstream that is not a URL", "https://example.com", "https://u:s3cret@exa mple", "proxy.remoteurl: must be a URL"),
		Entry("a user in the upstream", "https://example.com", "https://u:s3cret@example.com", "proxy.remoteurl: must not contain a user name or password; set proxy.username and proxy.password"),
		Entry("a path in the upstream", "https://example.com", "https://example.com/team/v2", "proxy.remoteurl: must not have a path"),
		Entry("a query in the upstream", "https://example.com", "https://example.com?token=s3cret", "proxy.remoteurl: must not have a query"),
		Entry("a user name without password", "password: s3cret", "", "proxy: username and password belong together"),
		Entry("a password without user name", "username: robot", "", "proxy: username and password belong together"),
		Entry("a credential helper without a command", "username: robot", "exec: {lifetime: 1h}\n  username: robot", "proxy.exec.command: missing, set"),
		Entry("a root directory that is null", "rootdirectory: /var/lib/registry", "rootdirectory:", "storage.filesystem.rootdirectory: not a path, set"),
		Entry("a root directory that is a number", "rootdirectory: /var/lib/registry", "rootdirectory: 5", "storage.filesystem.rootdirectory: not a path, set"),
		Entry("a registry middleware that is not built in", "http:", "middleware: {registry: [{name: other}]}\nhttp:", `middleware.registry[0]: "other" is not built in, remove it`),
		Entry("a storage middleware that is not built in", "http:", "middleware: {storage: [{name: cloudfront}]}\nhttp:", `middleware.storage[0]: "cloudfront" is not built in`),
		Entry("the engine as another kind of middleware", "http:", "middleware: {repository: [{name: pullthrough}]}\nhttp:", `middleware.repository[0]: "pullthrough" is not built in`),
		Entry("a negative TTL", "username: robot", "username: robot\n  ttl: -1h", "proxy.ttl: -1h0m0s must not be negative, set 0"),
		Entry("an unknown log level", "http:", "log: {level: loud}\nhttp:", "invalid loglevel loud"),
		Entry("an unknown log format", "http:", "log: {formatter: xml}\nhttp:", `log.formatter: "xml" is not supported`),
		Entry("a secret in place of a section", "proxy:\n  remoteurl: https://example.com\n  username: robot\n  password: s3cret", "proxy: s3cret`s", "cannot unmarshal !!str a value into configuration.Proxy"),
		Entry("a list in place of the password", "password: s3cret", "password: [s3cret]", "cannot unmarshal !!seq into string"),
	)

	It("reports all problems at once", func() {
		err := load("version: 0.1\nstorage: {gcs: {}}\nproxy: {ttl: -1s}\n")
		Expect(err).To(MatchError(And(
			ContainSubstring("storage.gcs:"), ContainSubstring("http.addr:"), ContainSubstring("proxy.remoteurl:"), ContainSubstring("proxy.ttl:"))))
	})

	It("names a missing file", func() {
		_, err := cacheserver.Load("/nowhere/config.yml")
		Expect(err).To(MatchError(ContainSubstring("open /nowhere/config.yml: no such file")))
	})

	It("warns about unknown fields", func() {
		output := gbytes.NewBuffer()
		logrus.SetOutput(output)
		DeferCleanup(func() { logrus.SetOutput(GinkgoWriter) })

		Expect(load(valid)).To(Succeed())
		Expect(output.Contents()).To(BeEmpty())
		Expect(load(strings.Replace(valid, "password: s3cret", "passwort: s3cret\n  password: s3cret", 1))).To(Succeed())
		Expect(output).To(gbytes.Say("field passwort not found"))
		Expect(output.Contents()).NotTo(ContainSubstring("s3cret"))
	})
})

var _ = Describe("the command", func() {
	It("tells its version", func() {
		output, err := exec.Command(implementation.Binary, "--version").Output()
		Expect(err).NotTo(HaveOccurred())
		Expect(string(output)).To(HavePrefix("registry-cache-server version "))
	})

	It("explains itself when it is used wrongly", func() {
		output, err := exec.Command(implementation.Binary, "serve").CombinedOutput()
		Expect(err).To(HaveOccurred())
		Expect(string(output)).To(And(ContainSubstring("serve CONFIG"), ContainSubstring("accepts 1 arg(s), received 0")))
	})
})
