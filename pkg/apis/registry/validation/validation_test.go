// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/upstream"
)

type (
	cache  = registry.RegistryCache
	change = func(*cache)
)

var fldPath = field.NewPath("providerConfig")

// newCache returns a cache with defaults, as the decoder does, and applies the changes.
func newCache(host string, changes ...change) cache {
	result := cache{
		Upstream:          host,
		RemoteURL:         new(upstream.Upstream(host).DefaultRemoteURL()),
		Volume:            &registry.Volume{Size: new(resource.MustParse("10Gi"))},
		GarbageCollection: &registry.GarbageCollection{TTL: &metav1.Duration{Duration: 168 * time.Hour}},
		HTTP:              &registry.HTTP{TLS: new(true)},
		HighAvailability:  &registry.HighAvailability{},
	}
	for _, change := range changes {
		change(&result)
	}
	return result
}

func configOf(caches ...cache) *registry.RegistryConfig {
	return &registry.RegistryConfig{Caches: caches}
}

func suffix(value string) change { return func(c *cache) { c.ServiceNameSuffix = &value } }
func remoteURL(value string) change {
	return func(c *cache) { c.RemoteURL = &value }
}
func size(value string) change {
	return func(c *cache) { c.Volume.Size = new(resource.MustParse(value)) }
}
func storageClass(value string) change { return func(c *cache) { c.Volume.StorageClassName = &value } }
func tagValidation(timeout time.Duration) change {
	return func(c *cache) {
		c.TagValidation = &registry.TagValidation{Timeout: &metav1.Duration{Duration: timeout}}
	}
}

func ttl(value time.Duration) change {
	return func(c *cache) { c.GarbageCollection.TTL = &metav1.Duration{Duration: value} }
}
func secretReference(value string) change { return func(c *cache) { c.SecretReferenceName = &value } }
func proxy(httpProxy, httpsProxy *string) change {
	return func(c *cache) { c.Proxy = &registry.Proxy{HTTPProxy: httpProxy, HTTPSProxy: httpsProxy} }
}

// an matches an error of the given type for the given field below providerConfig, with a part of its text.
func an(errorType field.ErrorType, path, detail string) gomegatypes.GomegaMatcher {
	return And(
		HaveField("Type", errorType),
		HaveField("Field", "providerConfig."+path),
		HaveField("Detail", ContainSubstring(detail)),
	)
}

func one(errorType field.ErrorType, path, detail string) gomegatypes.GomegaMatcher {
	return ConsistOf(an(errorType, path, detail))
}

var _ = Describe("ValidateRegistryConfig", func() {
	validate := func(caches ...cache) field.ErrorList {
		return validation.ValidateRegistryConfig(configOf(caches...), fldPath)
	}

	It("requires at least one cache", func() {
		Expect(validate()).To(one(field.ErrorTypeRequired, "caches", "remove the extension"))
	})

	It("accepts a cache with all fields", func() {
		Expect(validate(newCache("registry.example.com:5000",
			remoteURL("http://10.0.0.1:5000"), size("1"), storageClass("premium.ssd"), ttl(0), secretReference("robot"),
			proxy(new("http://proxy:3128"), new("https://10.0.0.2:3128")), suffix("example"),
		))).To(BeEmpty())
	})

	It("accepts a cache without defaults", func() {
		Expect(validate(cache{Upstream: "docker.io"})).To(BeEmpty())
	})

	It("reports all errors at once", func() {
		Expect(validate(
			newCache("https://docker.io", remoteURL("ftp://x/y"), size("0"), storageClass(""), ttl(-1), secretReference(""), suffix("")),
			newCache("docker.io", proxy(new("proxy"), new(""))),
		)).To(ContainElements(
			an(field.ErrorTypeInvalid, "caches[0].upstream", "without a scheme"),
			an(field.ErrorTypeInvalid, "caches[0].remoteURL", "https://"),
			an(field.ErrorTypeInvalid, "caches[0].volume.size", ""),
			an(field.ErrorTypeInvalid, "caches[0].volume.storageClassName", ""),
			an(field.ErrorTypeInvalid, "caches[0].garbageCollection.ttl", ""),
			an(field.ErrorTypeInvalid, "caches[0].secretReferenceName", ""),
			an(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", ""),
			an(field.ErrorTypeInvalid, "caches[1].proxy.httpProxy", ""),
			an(field.ErrorTypeInvalid, "caches[1].proxy.httpsProxy", ""),
		))
	})

	DescribeTable("accepts upstreams",
		func(host string) { Expect(validate(newCache(host))).To(BeEmpty()) },
		Entry("host", "docker.io"),
		Entry("label", "registry"),
		Entry("lowest port", "registry:1"),
		Entry("highest port", "registry.example.com:65535"),
		Entry("IPv4 address", "10.0.0.1:5000"),
		Entry("the longest host", strings.Repeat("a.", 126)+"a:65535"),
	)

	DescribeTable("refuses upstreams",
		func(host string, expected gomegatypes.GomegaMatcher) {
			Expect(validate(newCache(host))).To(expected)
		},
		Entry("empty", "", one(field.ErrorTypeRequired, "caches[0].upstream", "docker.io")),
		Entry("path", "docker.io/library", one(field.ErrorTypeInvalid, "caches[0].upstream", "without a path")),
		Entry("upper case", "Docker.io", one(field.ErrorTypeInvalid, "caches[0].upstream", "lower case")),
		Entry("white space", " docker.io", one(field.ErrorTypeInvalid, "caches[0].upstream", "lower case")),
		Entry("line break", "docker.io\n", one(field.ErrorTypeInvalid, "caches[0].upstream", "lower case")),
		Entry("parent directory", "..", one(field.ErrorTypeInvalid, "caches[0].upstream", "lower case")),
		Entry("trailing dot", "docker.io.", one(field.ErrorTypeInvalid, "caches[0].upstream", "lower case")),
		Entry("underscore", "my_registry", one(field.ErrorTypeInvalid, "caches[0].upstream", "lower case")),
		Entry("wildcard", "*.docker.io", one(field.ErrorTypeInvalid, "caches[0].upstream", "lower case")),
		Entry("too long", strings.Repeat("a", 254), one(field.ErrorTypeInvalid, "caches[0].upstream", "253")),
		Entry("much too long", strings.Repeat("A", 100_000), one(field.ErrorTypeTooLong, "caches[0].upstream", "259")),
		Entry("no host", ":5000", one(field.ErrorTypeInvalid, "caches[0].upstream", "lower case")),
		Entry("no port", "docker.io:", one(field.ErrorTypeInvalid, "caches[0].upstream", "from 1 to 65535")),
		Entry("port 0", "docker.io:0", one(field.ErrorTypeInvalid, "caches[0].upstream", "from 1 to 65535")),
		Entry("port too high", "docker.io:65536", one(field.ErrorTypeInvalid, "caches[0].upstream", "from 1 to 65535")),
		Entry("port with zeros", "docker.io:0443", one(field.ErrorTypeInvalid, "caches[0].upstream", "leading zeros")),
		Entry("port with a sign", "docker.io:+443", one(field.ErrorTypeInvalid, "caches[0].upstream", "from 1 to 65535")),
		Entry("two ports", "docker.io:443:443", one(field.ErrorTypeInvalid, "caches[0].upstream", "from 1 to 65535")),
		Entry("named port", "docker.io:https", one(field.ErrorTypeInvalid, "caches[0].upstream", "from 1 to 65535")),
		Entry("IPv6 address", "[::1]:5000", HaveLen(2)),
	)

	DescribeTable("accepts URLs",
		func(url string) {
			Expect(validate(newCache("docker.io", remoteURL(url), proxy(&url, &url)))).To(BeEmpty())
		},
		Entry("https", "https://registry-1.docker.io"),
		Entry("http and port", "http://registry:5000"),
		Entry("IPv4 address", "http://10.0.0.1"),
		Entry("the longest URL", "https://"+strings.Repeat("a.", 126)+"a:65535"),
	)

	DescribeTable("refuses URLs",
		func(url, detail string) {
			Expect(validate(newCache("docker.io", remoteURL(url), proxy(&url, &url)))).To(ConsistOf(
				an(field.ErrorTypeInvalid, "caches[0].remoteURL", detail),
				an(field.ErrorTypeInvalid, "caches[0].proxy.httpProxy", detail),
				an(field.ErrorTypeInvalid, "caches[0].proxy.httpsProxy", detail),
			))
		},
		Entry("another scheme", "ftp://docker.io", "must begin with https://"),
		Entry("trailing slash left by the defaults", "https://docker.io/", "must be written as https://docker.io"),
		Entry("underscore", "https://my_registry:5000", "name a host"),
		Entry("several problems", "https://docker.io/v2?a#b", "path, only a slash at the end; must not have a query, not even an empty one; must not have a fragment"),
		Entry("path", "https://docker.io/v2", "path"),
		Entry("parent directory", "https://docker.io/../..", "path"),
		Entry("user", "https://john@docker.io", "user name"),
		Entry("empty user", "https://@docker.io", "user name"),
		Entry("query", "https://docker.io?a=b", "query"),
		Entry("empty query", "https://docker.io?", "query"),
		Entry("fragment", "https://docker.io#a", "fragment"),
		Entry("empty fragment", "https://docker.io#", "fragment"),
		Entry("no host", "https://", "name a host"),
		Entry("only a port", "https://:5000", "name a host"),
		Entry("opaque", "https:docker.io", "name a host"),
		Entry("quote", `https://docker.io"`, "name a host"),
		Entry("quote in the middle", `https://docker'.io`, "name a host"),
		Entry("backslash", `https://docker\.io`, "such as https://"),
		Entry("line break", "https://docker.io\n", "such as https://"),
		Entry("space", "https://docker io", "such as https://"),
		Entry("escape", "https://docker%2f.io", "such as https://"),
		Entry("escaped letter", "https://docker%C3%A4.io", "name a host"),
		Entry("braces", "https://{{.Host}}", "such as https://"),
		Entry("trailing dot", "https://docker.io.", "name a host"),
		Entry("no port", "https://docker.io:", "from 1 to 65535"),
		Entry("port 0", "https://docker.io:0", "from 1 to 65535"),
		Entry("port too high", "https://docker.io:65536", "from 1 to 65535"),
		Entry("port with zeros", "https://docker.io:0443", "leading zeros"),
		Entry("upper case host", "https://Registry.Example.com", "must be written as https://registry.example.com"),
		Entry("IPv6 address", "http://[2001:db8::1]", "IPv4 address"),
		Entry("IPv6 address and port", "http://[2001:db8::1]:5000", "IPv4 address"),
		Entry("IPv6 address with a zone", "https://[fe80::1%25eth0]", "name a host"),
		Entry("upper case scheme", "HTTPS://docker.io", "must be written as https://docker.io"),
	)

	DescribeTable("refuses values that are not URLs",
		func(url string) {
			Expect(validate(newCache("docker.io", remoteURL(url)))).To(one(field.ErrorTypeInvalid, "caches[0].remoteURL", "https://"))
		},
		Entry("empty", ""), Entry("host", "docker.io"), Entry("host and port", "docker.io:443"), Entry("no scheme", "//docker.io"), Entry("dots", ".."),
	)

	It("does not parse a URL that is too long", func() {
		Expect(validate(newCache("docker.io", remoteURL("https://"+strings.Repeat("A", 100_000))))).To(one(field.ErrorTypeTooLong, "caches[0].remoteURL", "267"))
	})

	It("does not quote a password in a URL", func() {
		for _, url := range []string{"https://john:hunter2@docker.io", "https://john:hunter2@docker.io:x/%"} {
			Expect(validate(newCache("docker.io", remoteURL(url))).ToAggregate()).To(MatchError(Not(ContainSubstring("hunter2"))))
		}
		Expect(validate(newCache("john:hunter2@docker.io")).ToAggregate()).To(MatchError(Not(ContainSubstring(`upstream: Invalid value: "john:hunter2`))))
	})

	DescribeTable("refuses other fields",
		func(change change, expected gomegatypes.GomegaMatcher) {
			Expect(validate(newCache("docker.io", change))).To(expected)
		},
		Entry("size zero", size("0"), one(field.ErrorTypeInvalid, "caches[0].volume.size", "greater than zero")),
		Entry("negative size", size("-1Gi"), one(field.ErrorTypeInvalid, "caches[0].volume.size", "greater than zero")),
		Entry("largest size", size("1Pi"), BeEmpty()),
		Entry("size beyond the largest", size("1025Ti"), one(field.ErrorTypeInvalid, "caches[0].volume.size", "at most 1Pi")),
		Entry("size with an exponent", size("10e9"), one(field.ErrorTypeInvalid, "caches[0].volume.size", "without an exponent, for example 10Gi")),
		Entry("size with a negative exponent", size("1e-3"), one(field.ErrorTypeInvalid, "caches[0].volume.size", "without an exponent")),
		Entry("size in exabytes", size("1E"), one(field.ErrorTypeInvalid, "caches[0].volume.size", "at most 1Pi")),
		Entry("long storage class", storageClass(strings.Repeat("A", 254)), one(field.ErrorTypeTooLong, "caches[0].volume.storageClassName", "253")),
		Entry("empty storage class", storageClass(""), one(field.ErrorTypeInvalid, "caches[0].volume.storageClassName", "leave it unset")),
		Entry("invalid storage class", storageClass("Fast!"), one(field.ErrorTypeInvalid, "caches[0].volume.storageClassName", "name of a StorageClass")),
		Entry("negative timeout for tag validation", tagValidation(-time.Second), one(field.ErrorTypeInvalid, "caches[0].tagValidation.timeout", "must be from 0s to 30s")),
		Entry("timeout for tag validation beyond the maximum", tagValidation(31*time.Second), one(field.ErrorTypeInvalid, "caches[0].tagValidation.timeout", "must be from 0s to 30s")),
		Entry("timeout zero for tag validation", tagValidation(0), BeEmpty()),
		Entry("longest timeout for tag validation", tagValidation(30*time.Second), BeEmpty()),
		Entry("negative TTL", ttl(-time.Second), one(field.ErrorTypeInvalid, "caches[0].garbageCollection.ttl", "must not be negative")),
		Entry("empty secret reference", secretReference(""), one(field.ErrorTypeInvalid, "caches[0].secretReferenceName", "spec.resources")),
		Entry("empty suffix", suffix(""), one(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", "lower case")),
		Entry("suffix with a dot", suffix("a.b"), one(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", "dots")),
		Entry("suffix in upper case", suffix("A"), one(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", "lower case")),
		Entry("suffix too long", suffix(strings.Repeat("a", 55)), one(field.ErrorTypeTooLong, "caches[0].serviceNameSuffix", "54")),
		Entry("suffix much too long", suffix(strings.Repeat("a", 64)), one(field.ErrorTypeTooLong, "caches[0].serviceNameSuffix", "54")),
		Entry("longest suffix", suffix(strings.Repeat("a", 54)), BeEmpty()),
		Entry("suffix like its own derived name", suffix("docker-io"), BeEmpty()),
		Entry("TTL switched off", ttl(0), BeEmpty()),
	)

	DescribeTable("names",
		func(expected gomegatypes.GomegaMatcher, caches ...cache) { Expect(validate(caches...)).To(expected) },
		Entry("differ", BeEmpty(), newCache("docker.io"), newCache("quay.io"), newCache("docker.io:5000"), newCache("ghcr.io", suffix("github"))),
		Entry("same upstream", one(field.ErrorTypeDuplicate, "caches[1].upstream", ""), newCache("docker.io"), newCache("docker.io", suffix("x"))),
		Entry("same upstream three times", ContainElements(
			an(field.ErrorTypeDuplicate, "caches[1].upstream", ""), an(field.ErrorTypeDuplicate, "caches[2].upstream", ""),
		), newCache("docker.io"), newCache("docker.io"), newCache("docker.io")),
		Entry("port or hyphen", one(field.ErrorTypeInvalid, "caches[1].upstream", `"registry-r-io-5000" as those of the upstream "r.io:5000"`),
			newCache("r.io:5000"), newCache("r.io-5000")),
		Entry("dot or hyphen", one(field.ErrorTypeInvalid, "caches[2].upstream", `"r.io"`),
			newCache("r.io"), newCache("x.io"), newCache("r-io")),
		Entry("dot or hyphen, with a suffix", one(field.ErrorTypeInvalid, "caches[1].upstream", `"r.io"`),
			newCache("r.io", suffix("a")), newCache("r-io", suffix("b"))),
		Entry("same suffix", one(field.ErrorTypeDuplicate, "caches[1].serviceNameSuffix", ""),
			newCache("docker.io", suffix("x")), newCache("quay.io", suffix("x"))),
		Entry("suffix like a later derived name", one(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", `derived from the upstream "quay.io"`),
			newCache("docker.io", suffix("quay-io")), newCache("quay.io")),
		Entry("suffix like an earlier derived name", one(field.ErrorTypeInvalid, "caches[1].serviceNameSuffix", `derived from the upstream "quay.io"`),
			newCache("quay.io"), newCache("docker.io", suffix("quay-io"))),
		Entry("suffix like the derived name of a cache that has another Service", BeEmpty(),
			newCache("docker.io", suffix("quay-io")), newCache("quay.io", suffix("x"))),
		Entry("swapped suffixes", BeEmpty(),
			newCache("docker.io", suffix("quay-io")), newCache("quay.io", suffix("docker-io"))),
		Entry("one name for three caches", ConsistOf(
			an(field.ErrorTypeInvalid, "caches[1].upstream", `"r.io.x"`), an(field.ErrorTypeInvalid, "caches[2].upstream", `"r.io.x"`),
		), newCache("r.io.x"), newCache("r-io.x"), newCache("r-io-x")),
	)

	Describe("the number of caches", func() {
		caches := func(count int, changes ...change) []cache {
			result := make([]cache, count)
			for i := range result {
				result[i] = newCache(fmt.Sprintf("r%d.io", i), changes...)
			}
			return result
		}
		tooMany := one(field.ErrorTypeTooMany, "caches", "must have at most 150 items")

		It("has a maximum that is checked first", func() {
			Expect(validate(caches(150)...)).To(BeEmpty())
			Expect(validate(caches(151, remoteURL("x"))...)).To(tooMany)
			Expect(validate(caches(4000)...)).To(tooMany)
		})

		It("may stay above the maximum, but not grow", func() {
			update := func(newCaches, oldCaches []cache) field.ErrorList {
				return validation.ValidateRegistryConfigUpdate(configOf(newCaches...), configOf(oldCaches...), fldPath)
			}
			Expect(update(caches(200), caches(200))).To(BeEmpty())
			Expect(update(caches(199), caches(200))).To(BeEmpty())
			Expect(update(caches(201), caches(200))).To(tooMany)
		})

		It("returns one error for each cache, not for each pair", func() {
			equal := make([]cache, 100)
			for i := range equal {
				equal[i] = newCache("docker.io")
			}
			Expect(validate(equal...)).To(HaveLen(99))
			Expect(validate(caches(100, suffix("x"))...)).To(HaveLen(99))
		})
	})
})

var _ = Describe("ValidateRegistryConfigUpdate", func() {
	validate := func(newConfig, oldConfig *registry.RegistryConfig) field.ErrorList {
		return validation.ValidateRegistryConfigUpdate(newConfig, oldConfig, fldPath)
	}

	DescribeTable("changes of a cache",
		func(before, after cache, expected gomegatypes.GomegaMatcher) {
			// The position of the cache in the list must not matter.
			Expect(validate(configOf(after, newCache("quay.io")), configOf(newCache("quay.io"), before))).To(expected)
		},
		Entry("none", newCache("docker.io"), newCache("docker.io"), BeEmpty()),
		Entry("all mutable fields", newCache("docker.io"), newCache("docker.io",
			remoteURL("https://mirror"), size("20Gi"), ttl(time.Hour), secretReference("x"), suffix("x"), proxy(new("http://x"), nil),
			func(c *cache) { c.HTTP.TLS = new(false); c.HighAvailability.Enabled = true },
		), BeEmpty()),
		Entry("unchanged size that is no longer allowed", newCache("docker.io", size("10e18")), newCache("docker.io", size("10e18"), ttl(time.Hour)), BeEmpty()),
		Entry("unchanged size that is no longer allowed, in another notation", newCache("docker.io", size("10e9")), newCache("docker.io", size("10G")), BeEmpty()),
		Entry("size increased beyond the maximum", newCache("docker.io", size("2Pi")), newCache("docker.io", size("3Pi")),
			one(field.ErrorTypeInvalid, "caches[0].volume.size", "at most 1Pi")),
		Entry("same size in another notation", newCache("docker.io"), newCache("docker.io", size("10240Mi")), BeEmpty()),
		Entry("smaller size", newCache("docker.io"), newCache("docker.io", size("9Gi")),
			one(field.ErrorTypeForbidden, "caches[0].volume.size", "it is 10Gi now")),
		Entry("smaller and invalid size", newCache("docker.io"), newCache("docker.io", size("0")), HaveLen(2)),
		Entry("different storage class", newCache("docker.io", storageClass("a")), newCache("docker.io", storageClass("b")),
			one(field.ErrorTypeForbidden, "caches[0].volume.storageClassName", `it is "a" now`)),
		Entry("removed storage class", newCache("docker.io", storageClass("a")), newCache("docker.io"),
			one(field.ErrorTypeForbidden, "caches[0].volume.storageClassName", `it is "a" now`)),
		Entry("storage class instead of the default", newCache("docker.io"), newCache("docker.io", storageClass("a")),
			one(field.ErrorTypeForbidden, "caches[0].volume.storageClassName", "the cluster's default now")),
		Entry("garbage collection disabled", newCache("docker.io"), newCache("docker.io", ttl(0)), BeEmpty()),
		Entry("garbage collection enabled", newCache("docker.io", ttl(0)), newCache("docker.io"),
			one(field.ErrorTypeForbidden, "caches[0].garbageCollection.ttl", "remove this cache")),
		Entry("garbage collection still disabled", newCache("docker.io", ttl(0)), newCache("docker.io", ttl(0), size("20Gi")), BeEmpty()),
	)

	Describe("unchanged fields", func() {
		bad := func(changes ...change) cache {
			return newCache("https://docker.io", append([]change{
				remoteURL("ftp://x/y"), size("0"), storageClass(""), ttl(-1), secretReference(""), suffix(""), proxy(new("x"), new("y")), tagValidation(-1),
			}, changes...)...)
		}

		It("are not validated", func() {
			Expect(validation.ValidateRegistryConfig(configOf(bad()), fldPath)).NotTo(BeEmpty())
			Expect(validate(configOf(bad()), configOf(bad()))).To(BeEmpty())
			Expect(validate(configOf(newCache("quay.io"), bad()), configOf(bad()))).To(BeEmpty())
		})

		It("can be repaired one at a time", func() {
			Expect(validate(configOf(bad(remoteURL("https://x"))), configOf(bad()))).To(BeEmpty())
			Expect(validate(configOf(bad(size("1Gi"))), configOf(bad()))).To(BeEmpty())
			Expect(validate(configOf(bad(ttl(-2), suffix("x"))), configOf(bad()))).To(one(field.ErrorTypeInvalid, "caches[0].garbageCollection.ttl", "negative"))
		})

		It("are validated if the upstream changes", func() {
			Expect(validate(configOf(bad(func(c *cache) { c.Upstream = "quay.io" })), configOf(bad()))).To(ContainElement(an(field.ErrorTypeInvalid, "caches[0].remoteURL", "https://")))
		})

		It("can be removed", func() {
			Expect(validate(configOf(newCache("docker.io")), configOf(bad(), newCache("docker.io")))).To(BeEmpty())
		})

		DescribeTable("collisions",
			func(expected gomegatypes.GomegaMatcher, before, after []cache) {
				Expect(validate(configOf(after...), configOf(before...))).To(expected)
			},
			Entry("existing ones", BeEmpty(),
				[]cache{newCache("r.io"), newCache("r-io"), newCache("x"), newCache("x"), newCache("a", suffix("s")), newCache("b", suffix("s")), newCache("c", suffix("a"))},
				[]cache{newCache("c", suffix("a")), newCache("r-io"), newCache("x"), newCache("x"), newCache("b", suffix("s")), newCache("a", suffix("s")), newCache("r.io"), newCache("new")},
			),
			Entry("new one", one(field.ErrorTypeInvalid, "caches[1].upstream", `"r.io"`),
				[]cache{newCache("r.io")}, []cache{newCache("r.io"), newCache("r-io")}),
			Entry("suffix that collides", one(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", `"quay.io"`),
				[]cache{newCache("docker.io"), newCache("quay.io")}, []cache{newCache("docker.io", suffix("quay-io")), newCache("quay.io")}),
			Entry("existing ones after the removal of the first colliding cache", BeEmpty(),
				[]cache{newCache("r.io.x"), newCache("r-io.x"), newCache("r-io-x"), newCache("a", suffix("s")), newCache("b", suffix("s")), newCache("c", suffix("s"))},
				[]cache{newCache("r-io-x"), newCache("r-io.x"), newCache("c", suffix("s")), newCache("b", suffix("s"))}),
			Entry("another duplicate of an upstream", one(field.ErrorTypeDuplicate, "caches[2].upstream", ""),
				[]cache{newCache("r.io"), newCache("r.io")}, []cache{newCache("r.io"), newCache("r.io"), newCache("r.io")}),
		)
	})

	DescribeTable("name handovers",
		func(expected gomegatypes.GomegaMatcher, before, after []cache) {
			Expect(validate(configOf(after...), configOf(before...))).To(expected)
		},
		Entry("unrelated upstream", BeEmpty(), []cache{newCache("a")}, []cache{newCache("b")}),
		Entry("upstream with the same names", one(field.ErrorTypeInvalid, "caches[0].upstream", `"r.io:5000"`),
			[]cache{newCache("r.io:5000")}, []cache{newCache("r.io-5000")}),
		Entry("upstream with the same names except for the Service", one(field.ErrorTypeInvalid, "caches[0].upstream", "old volume"),
			[]cache{newCache("r.io:5000")}, []cache{newCache("r.io-5000", suffix("x"))}),
		Entry("suffix of a removed cache to a new one", one(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", `serves the upstream "a"`),
			[]cache{newCache("a", suffix("s"))}, []cache{newCache("b", suffix("s"))}),
		Entry("suffix of a removed cache to an existing one", one(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", `serves the upstream "a"`),
			[]cache{newCache("a", suffix("s")), newCache("b")}, []cache{newCache("b", suffix("s"))}),
		Entry("suffix of an existing cache to a new one", one(field.ErrorTypeInvalid, "caches[1].serviceNameSuffix", `serves the upstream "a"`),
			[]cache{newCache("a", suffix("s"))}, []cache{newCache("a"), newCache("b", suffix("s"))}),
		Entry("derived Service name of a removed cache", one(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", `serves the upstream "a"`),
			[]cache{newCache("a")}, []cache{newCache("b", suffix("a"))}),
		Entry("suffix of a removed cache to a derived name", one(field.ErrorTypeInvalid, "caches[0].upstream", `serves the upstream "b"`),
			[]cache{newCache("b", suffix("a"))}, []cache{newCache("a")}),
		Entry("two swapped suffixes", ConsistOf(
			an(field.ErrorTypeInvalid, "caches[0].serviceNameSuffix", `serves the upstream "b"`),
			an(field.ErrorTypeInvalid, "caches[1].serviceNameSuffix", `serves the upstream "a"`),
		), []cache{newCache("a", suffix("s")), newCache("b", suffix("t"))}, []cache{newCache("a", suffix("t")), newCache("b", suffix("s"))}),
		Entry("collision repaired by a removal", BeEmpty(),
			[]cache{newCache("r.io"), newCache("r-io")}, []cache{newCache("r-io")}),
		Entry("collision repaired by a suffix", BeEmpty(),
			[]cache{newCache("a", suffix("s")), newCache("b", suffix("s"))}, []cache{newCache("a", suffix("s")), newCache("b")}),
	)
})
