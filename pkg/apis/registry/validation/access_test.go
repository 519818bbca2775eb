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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
)

var _ = Describe("Access", func() {
	var cache registry.RegistryCache

	duration := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	account := func(name string) registry.Account {
		return registry.Account{Name: name, Namespaces: []string{"ci", "scan"}, Repositories: []string{"library", "team-a/app"}, RotationPeriod: duration(24 * time.Hour)}
	}
	BeforeEach(func() {
		cache = newCache("registry.example.com")
		cache.HTTP = &registry.HTTP{TLS: new(true)}
		cache.Access = &registry.Access{Mode: registry.AccessPullSecrets, GrantDuration: duration(time.Minute), OutageGrantDuration: duration(time.Hour)}
		cache.Accounts = []registry.Account{account("builder"), account("scanner")}
	})
	validate := func(old ...registry.RegistryCache) field.ErrorList {
		return validation.ValidateRegistryConfigUpdate(configOf(cache), configOf(old...), field.NewPath("config"))
	}

	DescribeTable("accepts", func(change func()) {
		change()
		Expect(validate()).To(BeEmpty())
	},
		Entry("all fields", func() {}),
		Entry("nothing", func() { cache.Access, cache.Accounts = nil, nil }),
		Entry("the default mode over plain HTTP", func() {
			cache.HTTP.TLS = new(false)
			cache.Access, cache.Accounts = &registry.Access{Mode: registry.AccessCluster}, nil
		}),
		Entry("accounts of a cache for nodes", func() { cache.Access = &registry.Access{Mode: registry.AccessNodes} }),
		Entry("an account for all repositories", func() { cache.Accounts[0].Repositories = nil }),
		Entry("the default rotation", func() { cache.Accounts[0].RotationPeriod = nil }),
		Entry("the fastest rotation", func() { cache.Accounts[0].RotationPeriod = duration(time.Hour) }),
		Entry("the slowest rotation", func() { cache.Accounts[0].RotationPeriod = duration(720 * time.Hour) }),
		Entry("the shortest grants", func() {
			cache.Access.GrantDuration, cache.Access.OutageGrantDuration = duration(time.Second), duration(0)
		}),
		Entry("the longest grants", func() {
			cache.Access.GrantDuration, cache.Access.OutageGrantDuration = duration(time.Hour), duration(24*time.Hour)
		}),
	)

	DescribeTable("refuses", func(change func(), path, message string) {
		change()
		Expect(validate()).To(ConsistOf(And(
			HaveField("Field", "config.caches[0]."+path),
			HaveField("ErrorBody()", ContainSubstring(message)),
		)))
		Expect(validate(cache)).To(BeEmpty(), "what did not change is not refused")
	},
		Entry("an unknown mode", func() { cache.Access.Mode = "Pods" }, "access.mode", `supported values: "Cluster", "Nodes", "PullSecrets"`),
		Entry("pull secrets over plain HTTP", func() { cache.HTTP.TLS = new(false) }, "access.mode", "set http.tls to true, or this field to Cluster"),
		Entry("nodes over plain HTTP", func() {
			cache.HTTP.TLS = new(false)
			cache.Access = &registry.Access{Mode: registry.AccessNodes}
		}, "access.mode", "Nodes needs TLS"),
		Entry("a duration in another mode", func() {
			cache.Access = &registry.Access{Mode: registry.AccessNodes, GrantDuration: duration(time.Minute)}
		}, "access.grantDuration", "only in access.mode PullSecrets"),
		Entry("a duration during outages in another mode", func() {
			cache.Access = &registry.Access{Mode: registry.AccessNodes, OutageGrantDuration: duration(time.Minute)}
		}, "access.outageGrantDuration", "only in access.mode PullSecrets"),
		Entry("grants that are too short", func() { cache.Access.GrantDuration = duration(time.Second - 1) }, "access.grantDuration", "must be from 1s to 1h0m0s"),
		Entry("grants that are too long", func() { cache.Access.GrantDuration = duration(time.Hour + 1) }, "access.grantDuration", "must be from 1s to 1h0m0s"),
		Entry("negative grants during outages", func() { cache.Access.OutageGrantDuration = duration(-1) }, "access.outageGrantDuration", "must be from 0s to 24h0m0s"),
		Entry("grants of more than a day", func() { cache.Access.OutageGrantDuration = duration(24*time.Hour + 1) }, "access.outageGrantDuration", "must be from 0s to 24h0m0s"),
		Entry("accounts that open nothing", func() { cache.Access = nil }, "accounts", "set it to PullSecrets or Nodes, or remove this field"),
		Entry("too many accounts of a cache", func() { cache.Accounts = make([]registry.Account, 17) }, "accounts", "at most 16 items"),
		Entry("an account without a name", func() { cache.Accounts[1].Name = "" }, "accounts[1].name", "a lowercase RFC 1123 label"),
		Entry("a name with a dot", func() { cache.Accounts[1].Name = "a.b" }, "accounts[1].name", "must not contain dots"),
		Entry("a name that is too long", func() { cache.Accounts[1].Name = strings.Repeat("a", 64) }, "accounts[1].name", "may not be more than 63"),
		Entry("a name twice", func() { cache.Accounts[1].Name = "builder" }, "accounts[1].name", "Duplicate"),
		Entry("no namespaces", func() { cache.Accounts[1].Namespaces = nil }, "accounts[1].namespaces", "must have at least one namespace"),
		Entry("too many namespaces", func() { cache.Accounts[1].Namespaces = make([]string, 101) }, "accounts[1].namespaces", "at most 100 items"),
		Entry("a namespace twice", func() { cache.Accounts[1].Namespaces = []string{"a", "a"} }, "accounts[1].namespaces[1]", "Duplicate"),
		Entry("an invalid namespace", func() { cache.Accounts[1].Namespaces = []string{"*"} }, "accounts[1].namespaces[0]", "a lowercase RFC 1123 label"),
		Entry("an empty list of repositories", func() { cache.Accounts[1].Repositories = []string{} }, "accounts[1].repositories", "remove this field for all repositories"),
		Entry("too many repositories", func() { cache.Accounts[1].Repositories = make([]string, 33) }, "accounts[1].repositories", "at most 32 items"),
		Entry("a wildcard", func() { cache.Accounts[1].Repositories = []string{"team-a/*"} }, "accounts[1].repositories[0]", "without a wildcard"),
		Entry("a slash at the end", func() { cache.Accounts[1].Repositories = []string{"team-a/"} }, "accounts[1].repositories[0]", "without a wildcard or a slash at the end"),
		Entry("a repository twice", func() { cache.Accounts[1].Repositories = []string{"a", "a"} }, "accounts[1].repositories[1]", "Duplicate"),
		Entry("a rotation that is too fast", func() { cache.Accounts[1].RotationPeriod = duration(time.Hour - 1) }, "accounts[1].rotationPeriod", "must be from 1h0m0s to 720h0m0s"),
		Entry("no rotation", func() { cache.Accounts[1].RotationPeriod = duration(0) }, "accounts[1].rotationPeriod", "must be from 1h0m0s to 720h0m0s"),
		Entry("a rotation that is too slow", func() { cache.Accounts[1].RotationPeriod = duration(720*time.Hour + 1) }, "accounts[1].rotationPeriod", "must be from 1h0m0s to 720h0m0s"),
		Entry("a pull secret with the name of an account's Secret", func() {
			cache.SecretReferenceName = new("x")
			cache.PullSecret = &registry.PullSecret{Name: "registry-registry-example-com.builder", Namespaces: []string{"x"}}
		}, "pullSecret.name", "is the name of an account's Secret"),
	)

	It("refuses to switch off TLS under a mode that needs it", func() {
		old := *cache.DeepCopy()
		cache.HTTP.TLS = new(false)
		Expect(validate(old)).To(ConsistOf(HaveField("Field", "config.caches[0].access.mode")))
	})

	It("refuses to open a cache with accounts", func() {
		old := *cache.DeepCopy()
		cache.Access = &registry.Access{Mode: registry.AccessCluster}
		Expect(validate(old)).To(ConsistOf(HaveField("Field", "config.caches[0].accounts")))
	})

	It("refuses too many accounts in all", func() {
		config := configOf()
		for i := range 3 {
			other := *cache.DeepCopy()
			other.Upstream = fmt.Sprintf("r%d.example.com", i)
			other.RemoteURL = new("https://" + other.Upstream)
			other.Accounts = nil
			for j := range 11 {
				other.Accounts = append(other.Accounts, account(fmt.Sprint("a", j)))
			}
			config.Caches = append(config.Caches, other)
		}
		Expect(validation.ValidateRegistryConfig(config, nil)).To(ConsistOf(HaveField("Detail", "must have at most 32 accounts, but has 33")))
		Expect(validation.ValidateRegistryConfigUpdate(config, config, nil)).To(BeEmpty())
		config.Caches[2].Accounts = config.Caches[2].Accounts[:10]
		Expect(validation.ValidateRegistryConfig(config, nil)).To(BeEmpty())
	})

	It("names the Secrets of accounts after their caches, so that they are unique", func() {
		team := registry.RegistryCache{Upstream: "quay.io.team"}
		quay := registry.RegistryCache{Upstream: "quay.io"}
		Expect(quay.AccountSecretName(registry.Account{Name: "team-x"})).To(Equal("registry-quay-io.team-x"))
		Expect(team.AccountSecretName(registry.Account{Name: "x"})).To(Equal("registry-quay-io-team.x"))
	})
})
