// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/cacheserver/config"
)

// The API and the server know the limits independently of each other: the server takes whatever the API admits.
var _ = Describe("Limits of the API", func() {
	cacheWith := func(change func(*registry.RegistryCache)) *registry.RegistryConfig {
		cache := registry.RegistryCache{Upstream: "docker.io", Access: &registry.Access{Mode: registry.AccessPullSecrets}}
		change(&cache)
		return &registry.RegistryConfig{Caches: []registry.RegistryCache{cache}}
	}
	admits := func(change func(*registry.RegistryCache)) bool {
		return len(validation.ValidateRegistryConfig(cacheWith(change), nil)) == 0
	}
	account := func(name string, repositories ...string) registry.Account {
		return registry.Account{Name: name, Namespaces: []string{"default"}, Repositories: repositories}
	}
	admitsAccounts := func(accounts ...registry.Account) bool {
		return admits(func(cache *registry.RegistryCache) { cache.Accounts = accounts })
	}
	// largest returns the largest number below 300 that the API admits. It must not be the last one.
	largest := func(admits func(n int) bool) int {
		GinkgoHelper()
		for n := 299; n > 0; n-- {
			if admits(n) {
				Expect(n).To(BeNumerically("<", 299), "the API has no limit")
				return n
			}
		}
		Fail("the API admits nothing")
		return 0
	}
	accounts := func(n int) (all []registry.Account) {
		for i := range n {
			all = append(all, account(fmt.Sprintf("a%d", i)))
		}
		return all
	}
	repositories := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("r%d", i))
		}
		return all
	}
	// marshal renders a file with an account, to which it adds a password.
	marshal := func(a config.Account) error {
		a.Passwords = []config.PasswordHash{config.HashPassword("password", nil)}
		_, err := config.Accounts{Accounts: []config.Account{a}}.Marshal()
		return err
	}

	DescribeTable("are within those of the server for durations", func(set func(*registry.Access, *metav1.Duration), get func(*config.Access, *time.Duration)) {
		admitted := 0
		for _, d := range []time.Duration{
			0, 1, time.Second - 1, time.Second, time.Minute, time.Hour, time.Hour + 1, 24 * time.Hour, 24*time.Hour + 1, 1000 * time.Hour, -1,
		} {
			if !admits(func(cache *registry.RegistryCache) { set(cache.Access, &metav1.Duration{Duration: d}) }) {
				continue
			}
			admitted++
			access := config.Access{Mode: config.AccessPullSecrets}
			get(&access, &d)
			Expect(access.Problems()).To(BeEmpty(), d.String())
		}
		Expect(admitted).To(BeNumerically(">=", 3))
	},
		Entry("of grants", func(a *registry.Access, d *metav1.Duration) { a.GrantDuration = d }, func(a *config.Access, d *time.Duration) { a.GrantDuration = d }),
		Entry("of grants in an outage", func(a *registry.Access, d *metav1.Duration) { a.OutageGrantDuration = d }, func(a *config.Access, d *time.Duration) { a.OutageGrantDuration = d }),
	)

	It("have the defaults of the server", func() {
		defaulted := &v1alpha3.RegistryConfig{Caches: []v1alpha3.RegistryCache{{Upstream: "docker.io", Access: &v1alpha3.Access{Mode: v1alpha3.AccessPullSecrets}}}}
		v1alpha3.SetObjectDefaults_RegistryConfig(defaulted)
		access := defaulted.Caches[0].Access
		Expect(access.GrantDuration.Duration).To(Equal(config.DefaultGrantDuration))
		Expect(access.OutageGrantDuration.Duration).To(Equal(config.DefaultOutageGrantDuration))
	})

	It("are within those of the server for accounts", func() {
		most := largest(func(n int) bool { return admitsAccounts(accounts(n)...) })
		mostRepositories := largest(func(n int) bool { return admitsAccounts(account("a", repositories(n)...)) })
		longestName := largest(func(n int) bool { return admitsAccounts(account(strings.Repeat("a", n))) })
		longestRepository := largest(func(n int) bool { return admitsAccounts(account("a", strings.Repeat("a", n))) })
		all := config.Accounts{}
		for i := range most {
			hashes := make([]config.PasswordHash, 0, config.MaxAccountPasswords)
			for range config.MaxAccountPasswords {
				hashes = append(hashes, config.HashPassword("password", new(time.Now())))
			}
			name := fmt.Sprintf("a%d", i)
			all.Accounts = append(all.Accounts, config.Account{
				Name: name + strings.Repeat("a", longestName-len(name)), Passwords: hashes,
				Repositories: append(repositories(mostRepositories-1), strings.Repeat("a", longestRepository)),
			})
		}
		content, err := all.Marshal()
		Expect(err).NotTo(HaveOccurred())
		Expect(config.ParseAccounts(content)).To(HaveField("Accounts", HaveLen(most)))
		const maxFile = 1 << 20 // of a Secret, and of the server for this file
		Expect(len(content)).To(BeNumerically("<", maxFile))
	})

	It("use names of accounts that the server takes", func() {
		var admitted []string
		for _, name := range []string{"a", "0", "a-b", "a--b", "a-", "-a", "a.b", "a_b", "A", "", "a b", "larder.a", "ä", strings.Repeat("a", 63), strings.Repeat("a", 64)} {
			if admitsAccounts(account(name)) {
				Expect(marshal(config.Account{Name: name, Repositories: []string{"a"}})).To(Succeed(), name)
				admitted = append(admitted, name)
			}
		}
		Expect(admitted).To(ContainElements("a", "a--b", "0"))
	})

	It("use repositories that the server takes", func() {
		separators := []string{".", "_", "__", "___", "-", "--", "---", "/", "//", "..", "-_", "._", ":", "@", "*", " ", "A", "ä", ":5000/"}
		names := []string{"a", "0", "localhost", "localhost/a", "a.b/c", strings.Repeat("f", 64), "a/manifests/b", "_catalog", "v2/a", "*"}
		for _, separator := range separators {
			names = append(names, "a"+separator+"b", "a/b"+separator+"c", separator+"a", "a"+separator)
		}
		admitted := slices.DeleteFunc(names, func(name string) bool { return !admitsAccounts(account("a", name)) })
		for _, name := range admitted {
			Expect(marshal(config.Account{Name: "a", Repositories: []string{name}})).To(Succeed(), name)
		}
		Expect(admitted).To(ContainElements("a", "a.b", "a__b", "a---b", "a/b", "a.b/c"))
	})
})
