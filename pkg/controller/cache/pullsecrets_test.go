// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/pullsecret"
)

var _ = Describe("Pull secrets", func() {
	static := func(name string) *credentials.Named {
		return &credentials.Named{Name: name, Material: credentials.Static(credentials.Credential{Username: name, Password: "password"})}
	}
	identity := func(token string) *credentials.Named {
		return &credentials.Named{Name: "identity", Material: credentials.Material{WorkloadIdentity: credentials.WorkloadIdentity{Provider: credentials.ProviderAWS, Config: "{}", Token: token}}}
	}
	published := func(named *credentials.Named) *pullsecret.Credential {
		return &pullsecret.Credential{Name: named.Name, Material: &named.Material}
	}
	active := func(name string) *registry.CredentialsStatus {
		return &registry.CredentialsStatus{SecretName: name, State: registry.CredentialsActive}
	}

	DescribeTable("publish", func(wanted *credentials.Named, status *registry.CredentialsStatus, before *pullsecret.Credential, expectedName string, expected *credentials.Named) {
		next := publish(wanted, status, before)
		Expect(next.Name).To(Equal(expectedName))
		if expected == nil {
			Expect(next.Material).To(BeNil())
			return
		}
		Expect(next.Material).To(HaveValue(Equal(expected.Material)))
	},
		Entry("nothing before the upstream has accepted the first credential", static("v1"), nil, nil, "v1", nil),
		Entry("nothing while it is pending", static("v1"), &registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsPending}, nil, "v1", nil),
		Entry("nothing while it is rejected", static("v1"), &registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsRejected}, nil, "v1", nil),
		Entry("an accepted credential", static("v1"), active("v1"), nil, "v1", static("v1")),
		Entry("the old credential during a rotation", static("v2"),
			&registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v2", State: registry.CredentialsPending}, published(static("v1")), "v1", static("v1")),
		Entry("the old credential at the start of a rotation", static("v2"), active("v1"), published(static("v1")), "v1", static("v1")),
		Entry("the new credential after a rotation", static("v2"), active("v2"), published(static("v1")), "v2", static("v2")),
		Entry("the same credential whatever its state", static("v1"), &registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsRejected}, published(static("v1")), "v1", static("v1")),
		Entry("the newer token of the same identity", identity("new"), &registry.CredentialsStatus{SecretName: "identity", State: registry.CredentialsPending}, published(identity("old")), "identity", identity("new")),
		Entry("what it was while the wanted one cannot be used", nil, active("v1"), published(static("v1")), "v1", static("v1")),
		Entry("nothing if there never was one", nil, nil, nil, "", nil),
	)

	newCache := func(host string, change func(*deployment)) deployment {
		cache := deployment{Values: component.Values{
			Cache: registry.RegistryCache{
				Upstream: host, RemoteURL: new("https://" + host), SecretReferenceName: new("entry"),
				PullSecret: &registry.PullSecret{Name: "pulls", Namespaces: []string{"a"}, NamespaceSelector: &metav1.LabelSelector{}, AddToDefaultServiceAccounts: true},
			},
			Credential: static("v1"),
		}}
		if change != nil {
			change(&cache)
		}
		return cache
	}
	accepted := func(hosts ...string) map[string]registry.RegistryCacheStatus {
		statuses := map[string]registry.RegistryCacheStatus{}
		for _, host := range hosts {
			statuses[host] = registry.RegistryCacheStatus{Upstream: host, Credentials: active("v1"), RepositoryCredentials: []registry.RepositoryCredentialStatus{
				{Repositories: []string{"team-a"}, Credentials: *active("a1")},
			}}
		}
		return statuses
	}

	It("share a name, and have only caches that have one", func() {
		caches := []deployment{
			newCache("a.example.com", nil),
			newCache("b.example.com", nil),
			newCache("c.example.com", func(d *deployment) { d.Cache.PullSecret = nil }),
			newCache("d.example.com", func(d *deployment) { d.Cache.PullSecret.Name = "other" }),
		}
		feed := feedOf(caches, accepted("a.example.com", "b.example.com", "c.example.com", "d.example.com"), pullsecret.Feed{})
		Expect(feed.Names()).To(Equal([]string{"pulls", "other"}))
		Expect(feed.Secrets[0].Registries).To(HaveLen(2))
		Expect(feed.Secrets[0].Namespaces).To(Equal([]string{"a"}))
		Expect(feed.Secrets[0].NamespaceSelector).To(Equal(&metav1.LabelSelector{}))
		Expect(feed.Secrets[0].AddToDefaultServiceAccounts).To(BeTrue())
		Expect(feed.Secrets[1].Registries).To(ConsistOf(HaveField("Upstream", "d.example.com")))
	})

	It("have the credentials for some repositories, and report what they have", func() {
		withRepositories := func(d *deployment) {
			d.Cache.Credentials = []registry.RepositoryCredential{{Repositories: []string{"team-a"}}, {Repositories: []string{"team-b"}}}
			d.RepositoryCredentials = []component.RepositoryCredential{
				{Repositories: []string{"team-a"}, Credential: static("a1")}, {Repositories: []string{"team-b"}, Credential: static("b1")},
			}
		}
		cache := newCache("a.example.com", withRepositories)
		feed := feedOf([]deployment{cache}, accepted("a.example.com"), pullsecret.Feed{})
		Expect(feed.Secrets[0].Registries[0].Credentials).To(HaveExactElements(
			And(HaveField("Name", "v1"), HaveField("Repositories", BeEmpty()), HaveField("Material", Not(BeNil()))),
			And(HaveField("Name", "a1"), HaveField("Repositories", []string{"team-a"}), HaveField("Material", Not(BeNil()))),
			And(HaveField("Name", "b1"), HaveField("Repositories", []string{"team-b"}), HaveField("Material", BeNil())),
		))
		Expect(pullSecrets{feed: feed}.status(cache.Cache)).To(Equal(&registry.PullSecretStatus{Name: "pulls", SecretNames: []string{"v1", "a1"}}))

		By("keeping them while the Secrets of the cache cannot be used")
		broken := newCache("a.example.com", withRepositories)
		broken.Credential, broken.RepositoryCredentials = nil, nil
		Expect(feedOf([]deployment{broken}, nil, feed)).To(Equal(feed))
	})

	It("connect as their cache only if credentials are issued", func() {
		connected := func(d *deployment) {
			d.Cache.Proxy = &registry.Proxy{HTTPSProxy: new("http://proxy.example.com:3128"), NoProxy: []string{"10.0.0.0/8"}}
			d.Connection = component.Connection{CABundle: []byte("bundle"), ProxyCredential: &credentials.Credential{Username: "u", Password: "p@:"}}
		}
		feed := feedOf([]deployment{newCache("a.example.com", connected)}, accepted("a.example.com"), pullsecret.Feed{})
		Expect(feed.Secrets[0].Registries[0].Connection).To(Equal(pullsecret.Connection{}))

		statuses := accepted("a.example.com")
		statuses["a.example.com"].Credentials.SecretName = "identity"
		feed = feedOf([]deployment{newCache("a.example.com", func(d *deployment) {
			connected(d)
			d.Credential = identity("token")
		})}, statuses, pullsecret.Feed{})
		Expect(feed.Secrets[0].Registries[0].Connection).To(Equal(pullsecret.Connection{
			HTTPSProxy: "http://u:p%40%3A@proxy.example.com:3128", NoProxy: []string{"10.0.0.0/8"}, CABundle: "bundle",
		}))
	})

	It("are issued for the host of the API", func() {
		feed := feedOf([]deployment{newCache("docker.io", func(d *deployment) { d.Cache.RemoteURL = new("https://registry-1.docker.io:443") })}, nil, pullsecret.Feed{})
		Expect(feed.Secrets[0].Registries[0].Host).To(Equal("registry-1.docker.io"))
	})
})
