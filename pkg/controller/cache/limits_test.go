// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/access"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// What admission accepts must be accepted by the programs that get it: the controllers in the seed and in the Shoot,
// and the cache server.
var _ = Describe("Limits of access", func() {
	It("are the same for admission and the controller in the Shoot", func() {
		Expect(validation.MaxAccounts).To(Equal(pullsecret.MaxAccounts))
	})

	It("are no wider for accounts in admission than in the file of the cache", func() {
		var accounts []registry.Account
		for i, name := range []string{"a", "0", "a-b", strings.Repeat("a", 63), "a--b"} {
			account := registry.Account{Name: name, Namespaces: []string{"default"}}
			for j := range 32 {
				account.Repositories = append(account.Repositories, fmt.Sprintf("team-%d-%d/a.b/c_d/e__f/g---h", i, j))
			}
			account.Repositories[0] = "a"
			account.Repositories[1] = strings.Repeat("a", 255)
			accounts = append(accounts, account)
		}
		for i := len(accounts); i < 16; i++ {
			accounts = append(accounts, registry.Account{Name: fmt.Sprintf("account-%d", i), Namespaces: []string{"default"}})
		}
		cache := registry.RegistryCache{Upstream: "registry.example.com", Access: &registry.Access{Mode: registry.AccessNodes}, Accounts: accounts}
		Expect(validation.ValidateRegistryConfig(&registry.RegistryConfig{Caches: []registry.RegistryCache{cache}}, nil)).To(BeEmpty())

		var file config.Accounts
		for _, account := range accounts {
			repositories := account.Repositories
			if len(repositories) == 0 {
				repositories = []string{config.AllRepositories}
			}
			file.Accounts = append(file.Accounts, config.Account{
				Name: account.Name, Repositories: repositories, Passwords: []config.PasswordHash{config.HashPassword("x", nil)},
			})
		}
		_, err := file.Marshal()
		Expect(err).NotTo(HaveOccurred())
	})

	DescribeTable("are no wider for grants in admission than in the server", func(duration, outage time.Duration) {
		cache := registry.RegistryCache{Upstream: "registry.example.com", Access: &registry.Access{
			Mode: registry.AccessPullSecrets, GrantDuration: &metav1.Duration{Duration: duration}, OutageGrantDuration: &metav1.Duration{Duration: outage},
		}}
		Expect(validation.ValidateRegistryConfig(&registry.RegistryConfig{Caches: []registry.RegistryCache{cache}}, nil)).To(BeEmpty())
		Expect(access.Options{Mode: access.PullSecrets, GrantDuration: duration, OutageGrantDuration: outage}.Problems()).To(BeEmpty())
	},
		Entry("the shortest", time.Second, time.Duration(0)),
		Entry("the longest", time.Hour, 24*time.Hour),
	)

	It("have the same defaults in the API and in the server", func() {
		cache := v1alpha3.RegistryCache{Upstream: "registry.example.com", Access: &v1alpha3.Access{Mode: v1alpha3.AccessPullSecrets}}
		v1alpha3.SetDefaults_Access(cache.Access)
		Expect(cache.Access.GrantDuration.Duration).To(Equal(access.Defaults.GrantDuration))
		Expect(cache.Access.OutageGrantDuration.Duration).To(Equal(access.Defaults.OutageGrantDuration))
	})
})
