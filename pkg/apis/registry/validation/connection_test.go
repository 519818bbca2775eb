// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	"golang.org/x/net/http/httpproxy"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
)

func caBundle(name string) change {
	return func(c *cache) { c.CABundleSecretReferenceName = &name }
}

func clientCertificate(name string) change {
	return func(c *cache) { c.ClientCertificateSecretReferenceName = &name }
}

func allowedRealms(hosts ...string) change { return func(c *cache) { c.AllowedRealms = hosts } }

func firstByte(timeout time.Duration) change {
	return func(c *cache) { c.Timeouts = &registry.Timeouts{FirstByte: &metav1.Duration{Duration: timeout}} }
}

func noProxy(entries ...string) change {
	return func(c *cache) {
		if c.Proxy == nil {
			c.Proxy = &registry.Proxy{}
		}
		c.Proxy.NoProxy = entries
	}
}

func proxySecret(name string) change {
	return func(c *cache) {
		if c.Proxy == nil {
			c.Proxy = &registry.Proxy{}
		}
		c.Proxy.SecretReferenceName = &name
	}
}

var _ = Describe("Connections", func() {
	validate := func(changes ...change) []*field.Error {
		return validation.ValidateRegistryConfig(configOf(newCache("quay.io", changes...)), fldPath)
	}
	update := func(old, changed cache) []*field.Error {
		return validation.ValidateRegistryConfigUpdate(configOf(changed), configOf(old), fldPath)
	}
	proxied := proxy(new("http://proxy:3128"), nil)

	It("accepts all settings together", func() {
		Expect(validate(caBundle("ca"), clientCertificate("client"), allowedRealms("auth.example.org", "10.0.0.1:8443"),
			firstByte(2*time.Minute), proxied, noProxy("example.com"), proxySecret("proxy"))).To(BeEmpty())
	})

	It("reports all errors at once, each with its field", func() {
		Expect(validate(caBundle(""), clientCertificate(""), allowedRealms("https://auth.example.org"), firstByte(0), noProxy("*"), proxySecret(""))).To(ConsistOf(
			an(field.ErrorTypeInvalid, "caches[0].caBundleSecretReferenceName", "must be the name of an entry in spec.resources"),
			an(field.ErrorTypeInvalid, "caches[0].clientCertificateSecretReferenceName", "must be the name of an entry in spec.resources"),
			an(field.ErrorTypeInvalid, "caches[0].proxy.secretReferenceName", "must be the name of an entry in spec.resources"),
			an(field.ErrorTypeInvalid, "caches[0].allowedRealms[0]", "without a scheme"),
			an(field.ErrorTypeInvalid, "caches[0].timeouts.firstByte", "must be from 1s to 10m"),
			an(field.ErrorTypeInvalid, "caches[0].proxy.noProxy[0]", "would use no proxy for anything"),
			an(field.ErrorTypeForbidden, "caches[0].proxy.noProxy", "set httpProxy or httpsProxy"),
			an(field.ErrorTypeForbidden, "caches[0].proxy.secretReferenceName", "set httpProxy or httpsProxy"),
		))
	})

	DescribeTable("limits the time for the first byte", func(timeout time.Duration, matcher gomegatypes.GomegaMatcher) {
		Expect(validate(firstByte(timeout))).To(matcher)
	},
		Entry("the minimum", time.Second, BeEmpty()),
		Entry("the maximum", 10*time.Minute, BeEmpty()),
		Entry("less than the minimum", time.Second-1, HaveLen(1)),
		Entry("more than the maximum", 10*time.Minute+1, HaveLen(1)),
		Entry("negative", -time.Second, HaveLen(1)),
	)

	DescribeTable("refuses hosts of token servers", func(host, detail string) {
		Expect(validate(allowedRealms(host))).To(ConsistOf(And(
			HaveField("Field", "providerConfig.caches[0].allowedRealms[0]"), HaveField("Detail", ContainSubstring(detail)),
		)))
	},
		Entry("empty", "", "must be the host"),
		Entry("a URL", "https://auth.example.org", "without a scheme"),
		Entry("a path", "auth.example.org/token", "a path"),
		Entry("a wildcard", "*.example.org", "a wildcard"),
		Entry("capitals", "Auth.example.org", "in lower case"),
		Entry("a port of 0", "auth.example.org:0", "from 1 to 65535"),
		Entry("no port after a colon", "auth.example.org:", "from 1 to 65535"),
		Entry("user info", "u:p@auth.example.org", "must be the host"),
		Entry("too long", strings.Repeat("a.", 200)+"a", "may not be more than"),
	)

	DescribeTable("refuses entries of noProxy", func(entry, detail string) {
		Expect(validate(proxied, noProxy(entry))).To(ConsistOf(And(
			HaveField("Field", "providerConfig.caches[0].proxy.noProxy[0]"), HaveField("Detail", ContainSubstring(detail)),
		)))
	},
		Entry("empty", "", "must be one host"),
		Entry("several in one", "a.example.com,b.example.com", "must be one host"),
		Entry("blanks", " example.com", "must be one host"),
		Entry("a URL", "https://example.com", "must be one host"),
		Entry("a wildcard, which not all programs understand", "*.example.com", ".example.com"),
		Entry("a range that starts elsewhere", "10.1.2.3/8", "10.0.0.0/8"),
		Entry("a port of 0", "10.1.2.3:0", "from 1 to 65535"),
		Entry("a zone", "fe80::1%eth0", "must be one host"),
		Entry("a port that is too large", "example.com:65536", "from 1 to 65535"),
		Entry("a line break", "example.com\n", "must be one host"),
		Entry("too long", strings.Repeat("a.", 200)+"a", "may not be more than"),
	)

	It("accepts entries of noProxy that the cache understands", func() {
		entries := []string{"example.com", ".example.org", "example.net:8443", "10.0.0.0/8", "192.168.1.1", "192.168.1.2:8443", "fd00::/8", "2001:db8::1", "[2001:db8::2]:8443"}
		Expect(validate(proxied, noProxy(entries...))).To(BeEmpty())
		config := httpproxy.Config{HTTPSProxy: "http://proxy:3128", NoProxy: strings.Join(entries, ",")}
		for _, direct := range []string{
			"https://example.com", "https://a.example.com", "https://a.example.org", "https://example.net:8443", "https://10.1.2.3",
			"https://192.168.1.1", "https://192.168.1.2:8443", "https://[fd00::1]", "https://[2001:db8::1]", "https://[2001:db8::2]:8443",
		} {
			Expect(config.ProxyFunc()(parseURL(direct))).To(BeNil(), direct)
		}
		for _, proxied := range []string{"https://example.org", "https://example.net", "https://192.168.1.2", "https://11.0.0.1"} {
			Expect(config.ProxyFunc()(parseURL(proxied))).NotTo(BeNil(), proxied)
		}
	})

	It("limits lists and refuses duplicates", func() {
		hosts := func(count int) (hosts []string) {
			for i := range count {
				hosts = append(hosts, fmt.Sprintf("h%d.example.com", i))
			}
			return hosts
		}
		Expect(validate(allowedRealms(hosts(10)...), proxied, noProxy(hosts(50)...))).To(BeEmpty())
		Expect(validate(allowedRealms(hosts(11)...), proxied, noProxy(hosts(51)...))).To(ConsistOf(
			an(field.ErrorTypeTooMany, "caches[0].allowedRealms", ""), an(field.ErrorTypeTooMany, "caches[0].proxy.noProxy", ""),
		))
		Expect(validate(allowedRealms("a", "b", "a"), proxied, noProxy("c", "c"))).To(ConsistOf(
			an(field.ErrorTypeDuplicate, "caches[0].allowedRealms[2]", ""), an(field.ErrorTypeDuplicate, "caches[0].proxy.noProxy[1]", ""),
		))
	})

	DescribeTable("limits the Secrets of all caches together", func(reference func(string) change, text string) {
		caches := func(count int) *registry.RegistryConfig {
			config := &registry.RegistryConfig{}
			for i := range count {
				for j := range 2 { // Caches that share an entry count once.
					config.Caches = append(config.Caches, newCache(fmt.Sprintf("r%d-%d.example.com", i, j), proxied, reference(fmt.Sprint("entry-", i))))
				}
			}
			return config
		}
		Expect(validation.ValidateRegistryConfig(caches(validation.MaxConnectionSecrets), fldPath)).To(BeEmpty())
		Expect(validation.ValidateRegistryConfig(caches(validation.MaxConnectionSecrets+1), fldPath)).To(ConsistOf(an(field.ErrorTypeForbidden, "caches", text)))
		Expect(validation.ValidateRegistryConfigUpdate(caches(validation.MaxConnectionSecrets+1), caches(validation.MaxConnectionSecrets+1), fldPath)).To(BeEmpty())
	},
		Entry("CA bundles", caBundle, "11 Secrets in caBundleSecretReferenceName"),
		Entry("client certificates", clientCertificate, "11 Secrets in clientCertificateSecretReferenceName"),
		Entry("credentials for proxies", proxySecret, "11 Secrets in proxy.secretReferenceName"),
	)

	DescribeTable("limits the length of a reference", func(reference func(string) change, path string) {
		long := strings.Repeat("x", 254)
		Expect(validate(proxied, reference(long[1:]))).To(BeEmpty())
		Expect(validate(proxied, reference(long))).To(ConsistOf(an(field.ErrorTypeTooLong, "caches[0]."+path, "253")))
		Expect(update(newCache("quay.io", proxied, reference(long)), newCache("quay.io", proxied, reference(long)))).To(BeEmpty())
	},
		Entry("to a credential", func(name string) change {
			return func(cache *registry.RegistryCache) { cache.SecretReferenceName = &name }
		}, "secretReferenceName"),
		Entry("to a CA bundle", caBundle, "caBundleSecretReferenceName"),
		Entry("to a client certificate", clientCertificate, "clientCertificateSecretReferenceName"),
		Entry("to a credential for proxies", proxySecret, "proxy.secretReferenceName"),
	)

	It("refuses a client certificate that the registry would never see", func() {
		plain := newCache("quay.io", remoteURL("http://quay.io"))
		Expect(validate(remoteURL("http://quay.io"), clientCertificate("client"))).To(ConsistOf(
			an(field.ErrorTypeForbidden, "caches[0].clientCertificateSecretReferenceName", "over HTTPS only")))
		Expect(update(newCache("quay.io", clientCertificate("client")), newCache("quay.io", remoteURL("http://quay.io"), clientCertificate("client")))).To(HaveLen(1))
		Expect(update(plain, newCache("quay.io", remoteURL("http://quay.io"), clientCertificate("client")))).To(HaveLen(1))
	})

	It("refuses to remove a proxy that other settings need", func() {
		before := newCache("quay.io", proxied, noProxy("example.com"), proxySecret("proxy"))
		Expect(update(before, newCache("quay.io", noProxy("example.com"), proxySecret("proxy")))).To(ConsistOf(
			an(field.ErrorTypeForbidden, "caches[0].proxy.noProxy", ""), an(field.ErrorTypeForbidden, "caches[0].proxy.secretReferenceName", ""),
		))
	})

	It("does not show a credential in the URL of a proxy, and names the remedy", func() {
		errs := validate(proxy(new("http://user:hunter2@proxy:3128"), nil))
		Expect(errs).To(ConsistOf(an(field.ErrorTypeInvalid, "caches[0].proxy.httpProxy", "see proxy.secretReferenceName")))
		Expect(errs[0].Error()).NotTo(ContainSubstring("hunter2"))
	})

	It("does not validate again what did not change", func() {
		invalid := []change{caBundle(""), clientCertificate(""), remoteURL("http://quay.io"), allowedRealms("*"), firstByte(0), noProxy("*", "*"), proxySecret("")}
		Expect(update(newCache("quay.io", invalid...), newCache("quay.io", append(slices.Clone(invalid), size("20Gi"))...))).To(BeEmpty())
	})
})

func parseURL(text string) *url.URL {
	GinkgoHelper()
	parsed, err := url.Parse(text)
	Expect(err).NotTo(HaveOccurred())
	return parsed
}
