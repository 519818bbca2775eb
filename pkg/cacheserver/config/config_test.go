// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Config", func() {
	DescribeTable("renders", func(name string, c config.Config) {
		rendered, err := c.Marshal()
		Expect(err).NotTo(HaveOccurred())

		golden := filepath.Join("testdata", name+".yaml")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			Expect(os.MkdirAll("testdata", 0o755)).To(Succeed())
			Expect(os.WriteFile(golden, rendered, 0o644)).To(Succeed())
		}
		expected, err := os.ReadFile(golden)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(rendered)).To(Equal(string(expected)))
	},
		Entry("an anonymous cache that keeps content for ever", "anonymous", config.Config{
			RemoteURL: "https://registry-1.docker.io",
		}),
		Entry("a private upstream behind TLS", "private-tls", config.Config{
			RemoteURL:  "https://private.example.com:5443",
			Credential: &credentials.Credential{Username: "robot$puller", Password: "example # password: *1"},
			TTL:        168 * time.Hour,
			TLS: &config.TLSFiles{
				CertificateFile: "/etc/distribution/tls/tls.crt",
				KeyFile:         "/etc/distribution/tls/tls.key",
			},
		}),
		Entry("a service account key", "service-account", config.Config{
			RemoteURL: "https://europe-docker.pkg.dev",
			Credential: &credentials.Credential{
				Username: "_json_key",
				Password: "{\n  \"type\": \"service_account\",\n  \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nZXhhbXBsZQ==\\n-----END PRIVATE KEY-----\\n\"\n}\n",
			},
			TTL: time.Hour,
		}),
	)

	It("tells Distribution what was asked for", func() {
		parsed := parse(config.Config{
			RemoteURL: "https://private.example.com",
			TTL:       90 * time.Minute,
			TLS:       &config.TLSFiles{CertificateFile: "/tls/tls.crt", KeyFile: "/tls/tls.key"},
		})

		Expect(parsed.Storage.Type()).To(Equal("filesystem"))
		Expect(parsed.Storage.Parameters()).To(HaveKeyWithValue("rootdirectory", config.StorageRoot))
		Expect(parsed.Storage).To(HaveKeyWithValue("delete", configuration.Parameters{"enabled": true}))
		Expect(parsed.HTTP.Addr).To(Equal(":5000"))
		Expect(parsed.HTTP.TLS.Certificate).To(Equal("/tls/tls.crt"))
		Expect(parsed.HTTP.TLS.Key).To(Equal("/tls/tls.key"))
		Expect(parsed.HTTP.DrainTimeout).To(Equal(config.DrainTimeout))
		Expect(parsed.HTTP.Debug.Addr).To(Equal(":5001"))
		Expect(parsed.HTTP.Debug.Prometheus.Enabled).To(BeTrue())
		Expect(parsed.HTTP.Debug.Prometheus.Path).To(Equal("/metrics"))
		Expect(parsed.Health.StorageDriver.Enabled).To(BeTrue())
		Expect(parsed.Proxy.RemoteURL).To(Equal("https://private.example.com"))
		Expect(parsed.Proxy.Username).To(BeEmpty())
		Expect(parsed.Proxy.Password).To(BeEmpty())
		Expect(parsed.Proxy.TTL).To(HaveValue(Equal(90 * time.Minute)))
	})

	It("says never when the TTL is off, instead of leaving the default of seven days", func() {
		Expect(parse(config.Config{RemoteURL: "http://example.com"}).Proxy.TTL).To(HaveValue(BeZero()))
	})

	DescribeTable("hands the exact bytes of a credential to Distribution's parser", func(username, password string) {
		parsed := parse(config.Config{
			RemoteURL:  "https://example.com",
			Credential: &credentials.Credential{Username: username, Password: password},
		})
		Expect([]byte(parsed.Proxy.Username)).To(Equal([]byte(username)))
		Expect([]byte(parsed.Proxy.Password)).To(Equal([]byte(password)))
		Expect(parsed.Proxy.RemoteURL).To(Equal("https://example.com"))
		Expect(parsed.Proxy.Exec).To(BeNil())
	}, credentialEntries())

	DescribeTable("refuses", func(mutate func(*config.Config), message string) {
		c := config.Config{RemoteURL: "https://example.com"}
		mutate(&c)
		_, err := c.Marshal()
		Expect(err).To(MatchError(ContainSubstring(message)))
		Expect(err.Error()).NotTo(ContainSubstring("s3cret"))
	},
		Entry("no remote URL", func(c *config.Config) { c.RemoteURL = "" }, "must be http(s)://host[:port]"),
		Entry("another scheme", func(c *config.Config) { c.RemoteURL = "ftp://example.com" }, "must be http(s)://host[:port]"),
		Entry("user info", func(c *config.Config) { c.RemoteURL = "https://u:s3cret@example.com" }, "must not carry user info"),
		Entry("user info in what is no URL", func(c *config.Config) { c.RemoteURL = "https://u:s3cret@exa mple.com" }, "is not a URL"),
		Entry("a negative TTL", func(c *config.Config) { c.TTL = -time.Second }, "must not be negative"),
		Entry("half a key pair", func(c *config.Config) { c.TLS = &config.TLSFiles{CertificateFile: "/tls.crt"} }, "both a certificate file and a key file"),
		Entry("an empty user name", func(c *config.Config) { c.Credential = &credentials.Credential{Password: "s3cret"} }, "both a user name and a password"),
		Entry("an empty password", func(c *config.Config) { c.Credential = &credentials.Credential{Username: "robot"} }, "both a user name and a password"),
	)
})

// FuzzCredential lets Distribution's own parser read every credential that the fuzzer comes up with.
func FuzzCredential(f *testing.F) {
	for _, text := range awkwardTexts() {
		f.Add([]byte("robot"), []byte(text))
		f.Add([]byte(text), []byte("password"))
	}
	f.Fuzz(func(t *testing.T, username, password []byte) {
		if len(username) == 0 || len(password) == 0 {
			t.Skip("a credential has both parts")
		}
		rendered, err := config.Config{
			RemoteURL:  "https://example.com",
			Credential: &credentials.Credential{Username: string(username), Password: string(password)},
		}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := configuration.Parse(bytes.NewReader(rendered))
		if err != nil {
			t.Fatalf("%v in:\n%s", err, rendered)
		}
		if parsed.Proxy.Username != string(username) || parsed.Proxy.Password != string(password) {
			t.Fatalf("got %q and %q, want %q and %q from:\n%s",
				parsed.Proxy.Username, parsed.Proxy.Password, username, password, rendered)
		}
	})
}

func parse(c config.Config) *configuration.Configuration {
	GinkgoHelper()
	rendered, err := c.Marshal()
	Expect(err).NotTo(HaveOccurred())
	parsed, err := configuration.Parse(bytes.NewReader(rendered))
	Expect(err).NotTo(HaveOccurred())
	return parsed
}

func credentialEntries() []TableEntry {
	texts := awkwardTexts()
	entries := make([]TableEntry, 0, 2*len(texts))
	for _, text := range texts {
		label := text
		if len(label) > 20 {
			label = label[:20]
		}
		entries = append(entries,
			Entry("password "+strings.ToValidUTF8(label, "?"), "robot", text),
			Entry("user name "+strings.ToValidUTF8(label, "?"), text, "password"))
	}
	return entries
}

// awkwardTexts are texts that YAML, a shell or a template would take for something else.
func awkwardTexts() []string {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	return []string{
		"null", "~", "true", "no", "on", "y", "<<", "=", "1", "0x1f", "0o17", "1e3", ".inf", ".nan", "1:30", "2026-01-02", "1_000",
		"*john", "&john", "!!binary eA==", "!tag", "|", ">", ">-", "%YAML 1.2", "---", "...", "--- a", "- a", "? a", ": a", "a: b", "a #b", "#a", "@a", "`a`",
		"[a]", "{a: b}", "{{ .Values }}", "${HOME}", "$(id)", "%s%n", `"x"`, `'x'`, `"`, `'`, `\`, `\n`, `\x00`, `a"b'c`, "'''", `"""`,
		" a", "a ", "\ta", "a\t", "a b", "a  b", "a:", "a:b", ":", ",", "robot$puller",
		"\n", "\n\n", "a\n", "\na", "a\n\n", "a\nb", "a\n b", " a\nb", "\n a\n", "a \nb", "a\r\nb", "a\rb", "\r", "a\n\tb", "password: x\nremoteurl: y",
		"a\n---\nb", "a\n...\nb", "a\n# b\n",
		"\x00", "\x01", "\x7f", "\u0085", "\u00a0", "\u2028", "a\n\u2028b", "\u2029", "\ufeff", "a\n\ufeffb", "\ufffd", "\ufffe", "\uffff", "\U0001f511",
		"pässwörd", "密码", "\xff", "\xc3\x28", "latin1 \xe9\n", "\xed\xa0\x80",
		string(everyByte), strings.Repeat("a", 4096), strings.Repeat("a ", 2048), strings.Repeat("\"", 4096), strings.Repeat("a\n", 2048), strings.Repeat("ä ", 1365),
	}
}
