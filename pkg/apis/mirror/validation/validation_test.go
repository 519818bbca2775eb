// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/validation"
)

type change = func(*mirror.Host)

var fldPath = field.NewPath("providerConfig")

func configOf(mirrors ...mirror.Mirror) *mirror.MirrorConfig {
	return &mirror.MirrorConfig{Mirrors: mirrors}
}

func newMirror(upstream string, hosts ...mirror.Host) mirror.Mirror {
	return mirror.Mirror{Upstream: upstream, Hosts: hosts}
}

// newHost returns a host with defaults, as the decoder does, and applies the changes.
func newHost(url string, changes ...change) mirror.Host {
	host := mirror.Host{Host: url, Capabilities: []mirror.Capability{mirror.Pull}}
	for _, change := range changes {
		change(&host)
	}
	return host
}

func capabilities(values ...mirror.Capability) change {
	return func(h *mirror.Host) { h.Capabilities = values }
}
func caBundle(name string) change {
	return func(h *mirror.Host) { h.CABundleSecretReferenceName = &name }
}

// an matches an error of the given type for the given field below mirrors, with a part of its text.
func an(errorType field.ErrorType, path, detail string) gomegatypes.GomegaMatcher {
	return And(
		HaveField("Type", errorType),
		HaveField("Field", "providerConfig.mirrors"+path),
		HaveField("ErrorBody()", And(ContainSubstring(detail), Not(ContainSubstring("hunter2")))),
	)
}

func one(errorType field.ErrorType, path, detail string) gomegatypes.GomegaMatcher {
	return ConsistOf(an(errorType, path, detail))
}

var _ = Describe("ValidateMirrorConfig", func() {
	validate := func(mirrors ...mirror.Mirror) field.ErrorList {
		return validation.ValidateMirrorConfig(configOf(mirrors...), fldPath)
	}

	It("requires at least one mirror, and one host of each", func() {
		Expect(validate()).To(one(field.ErrorTypeRequired, "", "remove the extension"))
		Expect(validate(newMirror("docker.io"))).To(one(field.ErrorTypeRequired, "[0].hosts", "at least one host"))
	})

	It("accepts mirrors with all fields", func() {
		Expect(validate(
			newMirror("docker.io", newHost("https://mirror.gcr.io"), newHost("https://harbor.example.com/v2/docker-hub",
				capabilities(mirror.Pull, mirror.Resolve), caBundle("ca"), func(h *mirror.Host) { h.OverridePath = new(true) })),
			newMirror("registry.example.com:5000", newHost("https://harbor.example.com/v2/docker-hub", caBundle("ca"))),
		)).To(BeEmpty())
	})

	It("reports all errors at once", func() {
		Expect(validate(
			newMirror("https://docker.io", newHost("mirror"), newHost("https://a", capabilities("push"), caBundle(""))),
			newMirror("docker.io", newHost("https://a/.."), newHost("https://b"), newHost("https://b")),
			newMirror("docker.io", newHost("https://a")),
		)).To(ConsistOf(
			an(field.ErrorTypeInvalid, "[0].upstream", "without a scheme"),
			an(field.ErrorTypeInvalid, "[0].hosts[0].host", "https://"),
			an(field.ErrorTypeNotSupported, "[0].hosts[1].capabilities[0]", `"pull", "resolve"`),
			an(field.ErrorTypeInvalid, "[0].hosts[1].caBundleSecretReferenceName", "spec.resources"),
			an(field.ErrorTypeInvalid, "[1].hosts[0].host", ".."),
			an(field.ErrorTypeDuplicate, "[1].hosts[2].host", ""),
			an(field.ErrorTypeDuplicate, "[2].upstream", ""),
		))
	})

	DescribeTable("upstreams",
		func(upstream string, expected gomegatypes.GomegaMatcher) {
			Expect(validate(newMirror(upstream, newHost("https://a")))).To(expected)
		},
		Entry("host", "docker.io", BeEmpty()),
		Entry("port", "registry.example.com:65535", BeEmpty()),
		Entry("IPv4 address", "10.0.0.1:5000", BeEmpty()),
		Entry("empty", "", one(field.ErrorTypeRequired, "[0].upstream", "docker.io")),
		Entry("scheme", "https://docker.io", one(field.ErrorTypeInvalid, "[0].upstream", "without a scheme")),
		Entry("password", "https://john:hunter2@docker.io", one(field.ErrorTypeInvalid, "[0].upstream", "without a scheme")),
		Entry("path", "docker.io/library", one(field.ErrorTypeInvalid, "[0].upstream", "without a path")),
		Entry("upper case", "Docker.io", one(field.ErrorTypeInvalid, "[0].upstream", "lower case")),
		Entry("port 0", "docker.io:0", one(field.ErrorTypeInvalid, "[0].upstream", "from 1 to 65535")),
		Entry("containerd's default", "_default", one(field.ErrorTypeInvalid, "[0].upstream", "DNS name")),
		Entry("parent directory", "..", one(field.ErrorTypeInvalid, "[0].upstream", "DNS name")),
		Entry("too long", strings.Repeat("a.", 130)+"a", one(field.ErrorTypeTooLong, "[0].upstream", "259")),
	)

	DescribeTable("hosts",
		func(url string, expected gomegatypes.GomegaMatcher) {
			Expect(validate(newMirror("docker.io", newHost(url)))).To(expected)
		},
		Entry("host", "https://mirror.gcr.io", BeEmpty()),
		Entry("HTTP", "http://mirror", BeEmpty()),
		Entry("port", "https://mirror:5000", BeEmpty()),
		Entry("trailing slash", "https://mirror/", BeEmpty()),
		Entry("path", "https://mirror/v2/docker-hub", BeEmpty()),
		Entry("path with a trailing slash", "https://mirror/v2/docker-hub/", BeEmpty()),
		Entry("IPv4 address", "https://10.0.0.1:5000", BeEmpty()),
		Entry("IPv6 address", "https://[2001:db8::1]", BeEmpty()),
		Entry("IPv6 address with a port and a path", "https://[2001:db8::1]:5000/v2", BeEmpty()),
		Entry("empty", "", one(field.ErrorTypeRequired, "[0].hosts[0].host", "https://mirror.example.com")),
		Entry("no scheme", "mirror", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "https://")),
		Entry("other scheme", "ftp://mirror", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "https://")),
		Entry("no host", "https:///v2", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "must name a host")),
		Entry("upper case", "https://Mirror/A", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "must be written as https://mirror/A")),
		Entry("underscore", "https://my_mirror", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "must name a host")),
		Entry("letter beyond ASCII", "https://mіrror", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "must name a host")),
		Entry("IPv6 address without brackets", "https://2001:db8::1", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "must")),
		Entry("IPv6 zone", "https://[fe80::1%25eth0]", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "without a zone")),
		Entry("port 0", "https://mirror:0", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "from 1 to 65535")),
		Entry("empty port", "https://mirror:", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "from 1 to 65535")),
		Entry("user", "https://john@mirror", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "image pull secrets")),
		Entry("password", "https://john:hunter2@mirror/v2", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "image pull secrets")),
		Entry("password with a slash", "https://john:hunter2/@mirror", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "image pull secrets")),
		Entry("query", "https://mirror/v2?a=b", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "query")),
		Entry("empty query", "https://mirror?", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "query")),
		Entry("fragment", "https://mirror/v2#a", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "fragment")),
		Entry("empty fragment", "https://mirror#", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "fragment")),
		Entry("dot", "https://mirror/./v2", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "segments")),
		Entry("two dots", "https://mirror/v2/..", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "segments")),
		Entry("encoded dots", "https://mirror/%2e%2e/v2", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "letters, digits")),
		Entry("quote", `https://mirror/a"b`, one(field.ErrorTypeInvalid, "[0].hosts[0].host", "letters, digits")),
		Entry("line break", "https://mirror/a\nb", one(field.ErrorTypeInvalid, "[0].hosts[0].host", "letters, digits")),
		Entry("too long", "https://mirror/"+strings.Repeat("a", 500), one(field.ErrorTypeTooLong, "[0].hosts[0].host", "512")),
	)

	DescribeTable("capabilities",
		func(expected gomegatypes.GomegaMatcher, values ...mirror.Capability) {
			Expect(validate(newMirror("docker.io", newHost("https://a", capabilities(values...))))).To(expected)
		},
		Entry("none", BeEmpty()),
		Entry("one", BeEmpty(), mirror.Resolve),
		Entry("both", BeEmpty(), mirror.Resolve, mirror.Pull),
		Entry("push", one(field.ErrorTypeNotSupported, "[0].hosts[0].capabilities[1]", `"push"`), mirror.Pull, mirror.Capability("push")),
		Entry("upper case", one(field.ErrorTypeNotSupported, "[0].hosts[0].capabilities[0]", `"Pull"`), mirror.Capability("Pull")),
		Entry("empty", one(field.ErrorTypeNotSupported, "[0].hosts[0].capabilities[0]", `""`), mirror.Capability("")),
		Entry("twice", one(field.ErrorTypeDuplicate, "[0].hosts[0].capabilities[1]", "pull"), mirror.Pull, mirror.Pull),
	)

	DescribeTable("duplicate hosts",
		func(first, second string, expected gomegatypes.GomegaMatcher) {
			Expect(validate(newMirror("docker.io", newHost(first), newHost(second)))).To(expected)
		},
		Entry("different", "https://a", "http://a", BeEmpty()),
		Entry("different paths", "https://a/b", "https://a/c", BeEmpty()),
		Entry("different ports", "https://a", "https://a:5000", BeEmpty()),
		Entry("equal", "https://a", "https://a", one(field.ErrorTypeDuplicate, "[0].hosts[1].host", "")),
		Entry("a trailing slash", "https://a/b", "https://a/b/", one(field.ErrorTypeDuplicate, "[0].hosts[1].host", "")),
		Entry("the port of the scheme", "https://a:443", "https://a", one(field.ErrorTypeDuplicate, "[0].hosts[1].host", "")),
		Entry("an IPv6 address in another notation", "https://[2001:db8::1]", "https://[2001:db8:0::1]", one(field.ErrorTypeDuplicate, "[0].hosts[1].host", "")),
		Entry("a password", "https://u:hunter2@a", "https://u:hunter2@a", ConsistOf(
			an(field.ErrorTypeInvalid, "[0].hosts[0].host", "image pull secrets"), an(field.ErrorTypeInvalid, "[0].hosts[1].host", "image pull secrets"),
			an(field.ErrorTypeDuplicate, "[0].hosts[1].host", ""),
		)),
	)

	It("allows the same host for several upstreams", func() {
		Expect(validate(newMirror("docker.io", newHost("https://a")), newMirror("quay.io", newHost("https://a")))).To(BeEmpty())
	})

	Describe("maximum numbers", func() {
		mirrors := func(count, hosts int, changes ...change) []mirror.Mirror {
			result := make([]mirror.Mirror, count)
			for i := range result {
				result[i].Upstream = fmt.Sprintf("r%d.io", i)
				for j := range hosts {
					result[i].Hosts = append(result[i].Hosts, newHost(fmt.Sprintf("https://h%d.example.com", j), changes...))
				}
			}
			return result
		}
		bundles := func(count int) []mirror.Mirror {
			result := mirrors(count, 1)
			for i := range result {
				caBundle(fmt.Sprintf("ca%d", i))(&result[i].Hosts[0])
			}
			return result
		}
		tooManyMirrors := one(field.ErrorTypeTooMany, "", "must have at most 100 items")
		tooManyHosts := one(field.ErrorTypeTooMany, "[0].hosts", "must have at most 5 items")
		tooManyBundles := one(field.ErrorTypeForbidden, "", "at most 10 are possible")

		It("are checked first", func() {
			Expect(validate(mirrors(100, 5, caBundle("ca"))...)).To(BeEmpty())
			Expect(validate(mirrors(101, 1, capabilities("x"))...)).To(tooManyMirrors)
			Expect(validate(mirrors(1, 6, capabilities("x"))...)).To(tooManyHosts)
		})

		It("limit the different CA bundles", func() {
			Expect(validate(bundles(10)...)).To(BeEmpty())
			Expect(validate(bundles(11)...)).To(tooManyBundles)
		})

		It("may stay exceeded, but not more than before", func() {
			update := func(newMirrors, oldMirrors []mirror.Mirror) field.ErrorList {
				return validation.ValidateMirrorConfigUpdate(configOf(newMirrors...), configOf(oldMirrors...), fldPath)
			}
			Expect(update(mirrors(200, 1), mirrors(200, 1))).To(BeEmpty())
			Expect(update(mirrors(199, 1), mirrors(200, 1))).To(BeEmpty())
			Expect(update(mirrors(201, 1), mirrors(200, 1))).To(tooManyMirrors)
			Expect(update(mirrors(1, 9), mirrors(1, 9))).To(BeEmpty())
			Expect(update(mirrors(1, 8), mirrors(1, 9))).To(BeEmpty())
			Expect(update(mirrors(1, 9), mirrors(1, 8))).To(tooManyHosts)
			Expect(update(bundles(20), bundles(20))).To(BeEmpty())
			Expect(update(bundles(20), bundles(19))).To(tooManyBundles)
		})
	})
})

var _ = Describe("ValidateMirrorConfigUpdate", func() {
	validate := func(newConfig, oldConfig *mirror.MirrorConfig) field.ErrorList {
		return validation.ValidateMirrorConfigUpdate(newConfig, oldConfig, fldPath)
	}
	bad := func() mirror.Mirror {
		return newMirror("https://docker.io", newHost("ftp://x", capabilities("push"), caBundle("")), newHost("https://a"), newHost("https://a/"))
	}

	It("does not validate what did not change", func() {
		Expect(validation.ValidateMirrorConfig(configOf(bad(), bad(), newMirror("quay.io")), fldPath)).To(HaveLen(12))
		Expect(validate(configOf(bad(), bad(), newMirror("quay.io")), configOf(bad(), bad(), newMirror("quay.io")))).To(BeEmpty())
		Expect(validate(configOf(newMirror("ghcr.io", newHost("https://a")), bad()), configOf(bad()))).To(BeEmpty())
	})

	It("compares duplicates in their order", func() {
		config := configOf(bad(), newMirror("https://docker.io", newHost("b"), newHost("b", capabilities("push"))), newMirror("quay.io", newHost("https://a")))
		Expect(validate(config, config)).To(BeEmpty())
	})

	It("accepts all changes of valid mirrors", func() {
		before := configOf(newMirror("docker.io", newHost("https://a"), newHost("https://b")), newMirror("quay.io", newHost("https://a")))
		after := configOf(newMirror("quay.io", newHost("https://b", capabilities(mirror.Resolve, mirror.Pull), caBundle("ca"))), newMirror("docker.io", newHost("https://b"), newHost("https://c"), newHost("https://a")))
		Expect(validate(after, before)).To(BeEmpty())
		Expect(validate(before, after)).To(BeEmpty())
	})

	It("accepts repairs one at a time", func() {
		repaired := bad()
		repaired.Hosts[0].Capabilities = []mirror.Capability{mirror.Resolve}
		Expect(validate(configOf(repaired), configOf(bad()))).To(BeEmpty())
		repaired.Hosts = repaired.Hosts[:2]
		Expect(validate(configOf(repaired), configOf(bad()))).To(BeEmpty())
	})

	It("validates changed fields", func() {
		changed := bad()
		changed.Hosts[0].Capabilities = []mirror.Capability{"push", "x"}
		changed.Hosts[1].Host = "https://b/.."
		changed.Hosts[2].CABundleSecretReferenceName = new("")
		Expect(validate(configOf(changed), configOf(bad()))).To(ConsistOf(
			an(field.ErrorTypeNotSupported, "[0].hosts[0].capabilities[0]", "push"),
			an(field.ErrorTypeNotSupported, "[0].hosts[0].capabilities[1]", "x"),
			an(field.ErrorTypeInvalid, "[0].hosts[1].host", ".."),
			an(field.ErrorTypeInvalid, "[0].hosts[2].caBundleSecretReferenceName", "spec.resources"),
		))
	})

	It("validates everything if the upstream changes", func() {
		changed := bad()
		changed.Upstream = "quay.io"
		Expect(validate(configOf(changed), configOf(bad()))).To(HaveLen(4))
	})

	It("refuses to remove the last mirror or host", func() {
		valid := newMirror("docker.io", newHost("https://a"))
		Expect(validate(configOf(), configOf(valid))).To(one(field.ErrorTypeRequired, "", "remove the extension"))
		Expect(validate(configOf(newMirror("docker.io")), configOf(valid))).To(one(field.ErrorTypeRequired, "[0].hosts", "remove the mirror"))
	})

	It("refuses another duplicate", func() {
		m := newMirror("docker.io", newHost("https://a"))
		Expect(validate(configOf(m, m, m), configOf(m, m))).To(one(field.ErrorTypeDuplicate, "[2].upstream", ""))
		before, after := newMirror("docker.io", newHost("https://a"), newHost("https://a/")), newMirror("docker.io", newHost("https://a"), newHost("https://a/"), newHost("https://a:443"))
		Expect(validate(configOf(after), configOf(before))).To(one(field.ErrorTypeDuplicate, "[0].hosts[2].host", ""))
	})
})
