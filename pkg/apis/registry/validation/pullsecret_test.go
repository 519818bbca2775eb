// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
)

var _ = Describe("Pull secrets", func() {
	var cache registry.RegistryCache

	BeforeEach(func() {
		cache = newCache("registry.example.com", secretReference("pull"))
		cache.PullSecret = &registry.PullSecret{
			Name: "registry.pulls", Namespaces: []string{"team-a", "team-b"},
			NamespaceSelector: &metav1.LabelSelector{
				MatchLabels:      map[string]string{"example.com/pulls": "private"},
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}}},
			},
			AddToDefaultServiceAccounts: true,
		}
	})
	validate := func(old ...registry.RegistryCache) field.ErrorList {
		return validation.ValidateRegistryConfigUpdate(configOf(cache), configOf(old...), field.NewPath("config"))
	}

	DescribeTable("accepts", func(change func()) {
		change()
		Expect(validate()).To(BeEmpty())
	},
		Entry("all fields", func() {}),
		Entry("only namespaces", func() { cache.PullSecret.NamespaceSelector = nil }),
		Entry("only a selector", func() { cache.PullSecret.Namespaces = nil }),
		Entry("a selector of all namespaces", func() {
			cache.PullSecret.Namespaces, cache.PullSecret.NamespaceSelector = nil, &metav1.LabelSelector{}
		}),
		Entry("a cache with credentials for some repositories", func() {
			cache.SecretReferenceName = nil
			cache.Credentials = []registry.RepositoryCredential{{Repositories: []string{"a"}, SecretReferenceName: "x"}}
		}),
		Entry("a remoteURL with another port", func() { cache.RemoteURL = new("https://registry.example.com:8443") }),
		Entry("Docker Hub", func() { cache.Upstream, cache.RemoteURL = "docker.io", new("https://registry-1.docker.io") }),
	)

	DescribeTable("refuses", func(change func(), path, message string) {
		change()
		Expect(validate()).To(ConsistOf(And(
			HaveField("Field", "config.caches[0].pullSecret"+path),
			HaveField("ErrorBody()", ContainSubstring(message)),
			HaveField("ErrorBody()", Not(ContainSubstring(strings.Repeat("x", 400)))),
		)))
	},
		Entry("an anonymous cache", func() { cache.SecretReferenceName = nil }, "", "set secretReferenceName or credentials"),
		Entry("another host", func() { cache.RemoteURL = new("https://mirror.example.com") }, "", "the host of remoteURL, which is not registry.example.com"),
		Entry("no name", func() { cache.PullSecret.Name = "" }, ".name", "RFC 1123 subdomain"),
		Entry("an invalid name", func() { cache.PullSecret.Name = "a_b" }, ".name", "RFC 1123 subdomain"),
		Entry("a long name", func() { cache.PullSecret.Name = strings.Repeat("x", 10_000) }, ".name", "more than 63"),
		Entry("neither namespaces nor a selector", func() { cache.PullSecret.Namespaces, cache.PullSecret.NamespaceSelector = nil, nil }, ".namespaces", "selects all namespaces"),
		Entry("an invalid namespace", func() { cache.PullSecret.Namespaces[1] = "a_b" }, ".namespaces[1]", "RFC 1123"),
		Entry("a long namespace", func() { cache.PullSecret.Namespaces[1] = strings.Repeat("x", 10_000) }, ".namespaces[1]", "more than 63"),
		Entry("a namespace twice", func() { cache.PullSecret.Namespaces[1] = "team-a" }, ".namespaces[1]", "Duplicate"),
		Entry("too many namespaces", func() {
			cache.PullSecret.Namespaces = nil
			for i := range 101 {
				cache.PullSecret.Namespaces = append(cache.PullSecret.Namespaces, fmt.Sprintf("n%d", i))
			}
		}, ".namespaces", "at most 100"),
		Entry("too many labels", func() {
			for i := range 10 {
				cache.PullSecret.NamespaceSelector.MatchLabels[fmt.Sprintf("l%d", i)] = "x"
			}
		}, ".namespaceSelector.matchLabels", "at most 10"),
		Entry("a long label", func() { cache.PullSecret.NamespaceSelector.MatchLabels["a"] = strings.Repeat("x", 10_000) }, ".namespaceSelector.matchLabels[a]", "more than 317"),
		Entry("a long key of a label", func() { cache.PullSecret.NamespaceSelector.MatchLabels[strings.Repeat("x", 10_000)] = "a" },
			".namespaceSelector.matchLabels["+strings.Repeat("x", 63)+"...]", "more than 317"),
		Entry("an invalid label", func() { cache.PullSecret.NamespaceSelector.MatchLabels["a"] = "-" }, ".namespaceSelector.matchLabels", "a valid label"),
		Entry("too many expressions", func() {
			for range 10 {
				cache.PullSecret.NamespaceSelector.MatchExpressions = append(cache.PullSecret.NamespaceSelector.MatchExpressions, cache.PullSecret.NamespaceSelector.MatchExpressions[0])
			}
		}, ".namespaceSelector.matchExpressions", "at most 10"),
		Entry("too many values", func() {
			for range 20 {
				cache.PullSecret.NamespaceSelector.MatchExpressions[0].Values = append(cache.PullSecret.NamespaceSelector.MatchExpressions[0].Values, "x")
			}
		}, ".namespaceSelector.matchExpressions[0].values", "at most 20"),
		Entry("a long value", func() {
			cache.PullSecret.NamespaceSelector.MatchExpressions[0].Values[0] = strings.Repeat("x", 10_000)
		}, ".namespaceSelector.matchExpressions[0]", "more than 317"),
		Entry("an invalid operator", func() { cache.PullSecret.NamespaceSelector.MatchExpressions[0].Operator = "?" }, ".namespaceSelector.matchExpressions[0].operator", "not a valid selector operator"),
	)

	Describe("changes", func() {
		It("does not validate what stays", func() {
			cache.PullSecret.Name = "a_b"
			old := *cache.DeepCopy()
			cache.Volume.Size = newCache("x", size("100Gi")).Volume.Size
			Expect(validate(old)).To(BeEmpty())
		})
		It("refuses to remove the credential of a pull secret", func() {
			old := *cache.DeepCopy()
			cache.SecretReferenceName = nil
			Expect(validate(old)).To(ConsistOf(HaveField("Field", "config.caches[0].pullSecret")))
		})
		It("refuses to lead a pull secret to another host", func() {
			old := *cache.DeepCopy()
			cache.RemoteURL = new("https://mirror.example.com")
			Expect(validate(old)).To(ConsistOf(HaveField("Field", "config.caches[0].pullSecret")))
		})
	})

	Describe("of several caches", func() {
		var other registry.RegistryCache
		BeforeEach(func() {
			other = *cache.DeepCopy()
			other.Upstream, other.RemoteURL = "docker.io", nil
		})
		validateBoth := func(old ...registry.RegistryCache) field.ErrorList {
			return validation.ValidateRegistryConfigUpdate(configOf(cache, other), configOf(old...), field.NewPath("config"))
		}

		It("may be the same, with namespaces in any order", func() {
			other.PullSecret.Namespaces = []string{"team-b", "team-a"}
			Expect(validateBoth()).To(BeEmpty())
		})
		DescribeTable("must not differ", func(change func(*registry.PullSecret)) {
			change(other.PullSecret)
			Expect(validateBoth()).To(ConsistOf(And(
				HaveField("Field", "config.caches[1].pullSecret"),
				HaveField("Detail", ContainSubstring("differs from the pull secret with the same name")),
			)))
			Expect(validateBoth(cache, other)).To(BeEmpty())
		},
			Entry("in namespaces", func(p *registry.PullSecret) { p.Namespaces = p.Namespaces[:1] }),
			Entry("in the selector", func(p *registry.PullSecret) { p.NamespaceSelector = nil }),
			Entry("in the ServiceAccounts", func(p *registry.PullSecret) { p.AddToDefaultServiceAccounts = false }),
		)
		It("may differ with different names", func() {
			other.PullSecret.Name, other.PullSecret.Namespaces = "other", []string{"x"}
			Expect(validateBoth()).To(BeEmpty())
		})
		It("must not be too many", func() {
			config := &registry.RegistryConfig{}
			for i := range 11 {
				next := *cache.DeepCopy()
				next.Upstream = fmt.Sprintf("r%d.example.com", i)
				next.RemoteURL = nil
				next.PullSecret.Name = fmt.Sprintf("p%d", i)
				config.Caches = append(config.Caches, next)
			}
			Expect(validation.ValidateRegistryConfig(config, nil)).To(ConsistOf(HaveField("Detail", ContainSubstring("at most 10 are possible"))))
			Expect(validation.ValidateRegistryConfigUpdate(config, config, nil)).To(BeEmpty())
		})
	})
})
