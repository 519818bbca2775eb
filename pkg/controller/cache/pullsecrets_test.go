// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
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
	changedIdentity := identity("old")
	changedIdentity.Material.WorkloadIdentity.Config = `{"roleARN":"another"}`
	published := func(named *credentials.Named) *pullsecret.Credential {
		return &pullsecret.Credential{Name: named.Name, Material: &named.Material}
	}
	active := func(name string) *registry.CredentialsStatus {
		return &registry.CredentialsStatus{SecretName: name, State: registry.CredentialsActive}
	}

	DescribeTable("publish", func(wanted *credentials.Named, deployed credentialstate.Deployed, status *registry.CredentialsStatus, before *pullsecret.Credential, expectedName string, expected *credentials.Named) {
		accepted := false
		if wanted != nil {
			accepted = isAccepted(wanted, deployed.Next(*wanted, status).Previous, deployed, status)
		}
		next := publish(wanted, accepted, before)
		Expect(next.Name).To(Equal(expectedName))
		if expected == nil {
			Expect(next.Material).To(BeNil())
			return
		}
		Expect(next.Material).To(HaveValue(Equal(expected.Material)))
	},
		Entry("nothing before the upstream has accepted the first credential", static("v1"), credentialstate.Deployed{}, nil, nil, "v1", nil),
		Entry("nothing while it is pending", static("v1"), credentialstate.Deployed{Wanted: static("v1"), Previous: nil}, &registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsPending}, nil, "v1", nil),
		Entry("nothing while it is rejected", static("v1"), credentialstate.Deployed{Wanted: static("v1"), Previous: nil}, &registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsRejected}, nil, "v1", nil),
		Entry("an accepted credential", static("v1"), credentialstate.Deployed{Wanted: static("v1"), Previous: nil}, active("v1"), nil, "v1", static("v1")),
		Entry("the old credential during a rotation", static("v2"), credentialstate.Deployed{Wanted: static("v2"), Previous: static("v1")},
			&registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v2", State: registry.CredentialsPending}, published(static("v1")), "v1", static("v1")),
		Entry("the old credential at the start of a rotation", static("v2"), credentialstate.Deployed{Wanted: static("v1"), Previous: nil}, active("v1"), published(static("v1")), "v1", static("v1")),
		Entry("the new credential after a rotation", static("v2"), credentialstate.Deployed{Wanted: static("v2"), Previous: static("v1")}, active("v2"), published(static("v1")), "v2", static("v2")),
		Entry("the same credential whatever its state", static("v1"), credentialstate.Deployed{Wanted: static("v1"), Previous: nil}, &registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsRejected}, published(static("v1")), "v1", static("v1")),
		Entry("the newer token of the same identity", identity("new"), credentialstate.Deployed{Wanted: identity("old"), Previous: nil}, &registry.CredentialsStatus{SecretName: "identity", State: registry.CredentialsPending}, published(identity("old")), "identity", identity("new")),
		Entry("the old identity at the start of a rotation to another one with the same name", changedIdentity, credentialstate.Deployed{Wanted: identity("old")},
			active("identity"), published(identity("old")), "identity", identity("old")),
		Entry("the old identity while another one with the same name is pending", changedIdentity, credentialstate.Deployed{Wanted: changedIdentity, Previous: identity("old")},
			&registry.CredentialsStatus{SecretName: "identity", PendingSecretName: "identity", State: registry.CredentialsPending}, published(identity("old")), "identity", identity("old")),
		Entry("another identity with the same name after a rotation", changedIdentity, credentialstate.Deployed{Wanted: changedIdentity},
			active("identity"), published(identity("old")), "identity", changedIdentity),
		Entry("nothing if the accepted credential is not known to be this one", static("v1"), credentialstate.Deployed{}, active("v1"), nil, "v1", nil),
		Entry("what it was while the wanted one cannot be used", nil, credentialstate.Deployed{Wanted: static("v1"), Previous: nil}, active("v1"), published(static("v1")), "v1", static("v1")),
		Entry("nothing if there never was one", nil, credentialstate.Deployed{}, nil, nil, "", nil),
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

	// newFeed returns the feed for caches whose credentials are deployed.
	newFeed := func(caches []deployment, statuses map[string]registry.RegistryCacheStatus, before pullsecret.Feed) pullsecret.Feed {
		in := pullSecretInput{caches: caches, found: observed{status: providerStatus{caches: statuses}, credentials: map[string]map[string]credentialstate.Deployed{}}}
		var configured []registry.RegistryCache
		for _, cache := range caches {
			configured = append(configured, cache.Cache)
			deployed := map[string]credentialstate.Deployed{"": {Wanted: cache.Credential}}
			for _, credential := range cache.RepositoryCredentials {
				deployed[credentials.Prefix(credential.Repositories)] = credentialstate.Deployed{Wanted: credential.Credential}
			}
			in.found.credentials[cache.Name()] = deployed
		}
		return feedOf(configured, in, before)
	}

	It("come with the accounts of caches that restrict access", func() {
		restricted := func(host string, change func(*deployment)) deployment {
			return newCache(host, func(d *deployment) {
				d.Cache.HTTP, d.Cache.Access = &registry.HTTP{TLS: new(true)}, &registry.Access{Mode: registry.AccessNodes}
				d.Cache.Accounts = []registry.Account{{
					Name: "builder", Namespaces: []string{"ci"}, Repositories: []string{"library"}, RotationPeriod: &metav1.Duration{Duration: 12 * time.Hour},
				}}
				if change != nil {
					change(d)
				}
			})
		}
		caches := []deployment{
			restricted("docker.io", nil),
			restricted("quay.io", func(d *deployment) { d.Cache.ServiceNameSuffix = new("q") }),
			restricted("ghcr.io", func(d *deployment) { d.Cache.Access = nil }),
		}
		notDeployed := []registry.RegistryCache{caches[0].Cache}
		stays := feedOf(notDeployed, pullSecretInput{caBundle: []byte("pem")}, pullsecret.Feed{})
		Expect(stays).To(And(HaveField("CABundle", "pem"), HaveField("Accounts", Equal(accountsOf(caches[0])))))
		Expect(feedOf(notDeployed, pullSecretInput{}, stays)).To(Equal(stays))
		Expect(newFeed(caches, nil, pullsecret.Feed{}).Accounts).To(ConsistOf(
			pullsecret.Account{
				Cache: "registry-docker-io", Name: "builder", SecretName: "registry-docker-io.builder", Namespaces: []string{"ci"}, Repositories: []string{"library"},
				Registry: "registry-docker-io.kube-system.svc:5000", RotationPeriod: metav1.Duration{Duration: 12 * time.Hour},
			},
			pullsecret.Account{
				Cache: "registry-quay-io", Name: "builder", SecretName: "registry-quay-io.builder", Namespaces: []string{"ci"}, Repositories: []string{"library"},
				Registry: "registry-q.kube-system.svc:5000", RotationPeriod: metav1.Duration{Duration: 12 * time.Hour},
			},
		))
		Expect(accountStatuses(caches[0])).To(ConsistOf(registry.AccountStatus{Name: "builder", Registry: "registry-docker-io.kube-system.svc:5000", SecretName: "registry-docker-io.builder"}))
		Expect(accountStatuses(caches[2])).To(BeNil())
		Expect(serverCertificates(caches[:2], nil)).To(HaveExactElements(
			HaveField("DNSNames", ContainElement("registry-docker-io.kube-system.svc")),
			HaveField("DNSNames", ContainElement("registry-q.kube-system.svc")),
		))
	})

	It("share a name, and have only caches that have one", func() {
		caches := []deployment{
			newCache("a.example.com", nil),
			newCache("b.example.com", nil),
			newCache("c.example.com", func(d *deployment) { d.Cache.PullSecret = nil }),
			newCache("d.example.com", func(d *deployment) { d.Cache.PullSecret.Name = "other" }),
		}
		feed := newFeed(caches, accepted("a.example.com", "b.example.com", "c.example.com", "d.example.com"), pullsecret.Feed{})
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
		feed := newFeed([]deployment{cache}, accepted("a.example.com"), pullsecret.Feed{})
		Expect(feed.Secrets[0].Registries[0].Credentials).To(HaveExactElements(
			And(HaveField("Name", "v1"), HaveField("Repositories", BeEmpty()), HaveField("Material", Not(BeNil()))),
			And(HaveField("Name", "a1"), HaveField("Repositories", []string{"team-a"}), HaveField("Material", Not(BeNil()))),
			And(HaveField("Name", "b1"), HaveField("Repositories", []string{"team-b"}), HaveField("Material", BeNil())),
		))
		Expect(pullSecrets{feed: &feed}.status(cache.Cache, nil)).To(Equal(&registry.PullSecretStatus{Name: "pulls", SecretNames: []string{"v1", "a1"}}))

		By("keeping them while the Secrets of the cache cannot be used")
		broken := newCache("a.example.com", withRepositories)
		broken.Credential, broken.RepositoryCredentials = nil, nil
		Expect(newFeed([]deployment{broken}, nil, feed)).To(Equal(feed))
	})

	It("connect as their cache only if credentials are issued", func() {
		connected := func(d *deployment) {
			d.Cache.Proxy = &registry.Proxy{HTTPSProxy: new("http://proxy.example.com:3128"), NoProxy: []string{"10.0.0.0/8"}}
			d.Connection = component.Connection{CABundle: []byte("bundle"), ProxyCredential: &credentials.Credential{Username: "u", Password: "p@:"}}
		}
		feed := newFeed([]deployment{newCache("a.example.com", connected)}, accepted("a.example.com"), pullsecret.Feed{})
		Expect(feed.Secrets[0].Registries[0].Connection).To(Equal(pullsecret.Connection{}))

		statuses := accepted("a.example.com")
		statuses["a.example.com"].Credentials.SecretName = "identity"
		feed = newFeed([]deployment{newCache("a.example.com", func(d *deployment) {
			connected(d)
			d.Credential = identity("token")
		})}, statuses, pullsecret.Feed{})
		Expect(feed.Secrets[0].Registries[0].Connection).To(Equal(pullsecret.Connection{
			HTTPSProxy: "http://u:p%40%3A@proxy.example.com:3128", NoProxy: []string{"10.0.0.0/8"}, CABundle: "bundle",
		}))
	})

	It("are issued for the host of the API", func() {
		feed := newFeed([]deployment{newCache("docker.io", func(d *deployment) { d.Cache.RemoteURL = new("https://registry-1.docker.io:443") })}, nil, pullsecret.Feed{})
		Expect(feed.Secrets[0].Registries[0].Host).To(Equal("registry-1.docker.io"))
	})

	It("keep what they have for a cache that is not deployed", func() {
		cache := newCache("a.example.com", nil).Cache
		Expect(feedOf([]registry.RegistryCache{cache}, pullSecretInput{}, pullsecret.Feed{})).To(Equal(pullsecret.Feed{Secrets: []pullsecret.Secret{{
			Name: "pulls", Namespaces: []string{"a"}, NamespaceSelector: &metav1.LabelSelector{}, AddToDefaultServiceAccounts: true,
			Registries: []pullsecret.Registry{{Upstream: "a.example.com", Host: "a.example.com", Credentials: []pullsecret.Credential{{}}}},
		}}}))
	})

	It("connect as before while the cache stays as it is deployed", func() {
		connected := func(d *deployment) {
			d.Credential = identity("token")
			d.Cache.Proxy = &registry.Proxy{HTTPSProxy: new("http://proxy.example.com:3128")}
			d.Connection.ProxyCredential = &credentials.Credential{Username: "u", Password: "p"}
		}
		statuses := accepted("a.example.com")
		statuses["a.example.com"].Credentials.SecretName = "identity"
		before := newFeed([]deployment{newCache("a.example.com", connected)}, statuses, pullsecret.Feed{})
		broken := newCache("a.example.com", func(d *deployment) {
			connected(d)
			d.Connection.ProxyCredential = &credentials.Credential{}
			d.Deployed = []client.Object{&corev1.Secret{}}
		})
		Expect(newFeed([]deployment{broken}, statuses, before)).To(Equal(before))
	})

	It("stay as they are, with an error, while they would be too large", func() {
		large := func(d *deployment) {
			d.Credential.Material.Credential.Password = strings.Repeat("x", pullsecret.MaxConfig)
		}
		names := func(d *deployment) { d.Cache.PullSecret.Name = "other" }
		statuses := accepted("a.example.com", "b.example.com")
		before := newFeed([]deployment{newCache("a.example.com", nil)}, statuses, pullsecret.Feed{})
		after := newFeed([]deployment{newCache("a.example.com", large), newCache("b.example.com", names)}, statuses, before)
		bounded, problems := limited(after, before)
		Expect(problems).To(ConsistOf(MatchError(And(ContainSubstring(`"pulls"`), ContainSubstring("more than the maximum of 131072"), ContainSubstring("use fewer repositories")))))
		Expect(bounded.Secrets).To(HaveLen(2))
		Expect(bounded.Secrets[0]).To(Equal(before.Secrets[0]))
		Expect(bounded.Secrets[1].Registries[0].Credentials[0].Material).NotTo(BeNil())

		By("having no material at first")
		bounded, problems = limited(newFeed([]deployment{newCache("a.example.com", large)}, statuses, pullsecret.Feed{}), pullsecret.Feed{})
		Expect(problems).To(HaveLen(1))
		Expect(bounded.Secrets[0].Registries[0].Credentials).To(Equal([]pullsecret.Credential{{Name: "v1"}}))
	})

	It("keep their status while the feed cannot be read", func() {
		cache := newCache("a.example.com", nil).Cache
		before := &registry.PullSecretStatus{Name: "pulls", SecretNames: []string{"v1"}}
		Expect(pullSecrets{}.status(cache, before)).To(Equal(before))
		Expect(pullSecrets{}.status(cache, &registry.PullSecretStatus{Name: "other", SecretNames: []string{"v1"}})).To(Equal(&registry.PullSecretStatus{Name: "pulls"}))
		cache.PullSecret = nil
		Expect(pullSecrets{}.status(cache, before)).To(BeNil())
	})

	DescribeTable("delay the end of a rotation until all namespaces have the new credential", func(change func(*deployment, *credentialstate.Deployed, *registry.CredentialsStatus), distributed, expected bool) {
		now := time.Now()
		cache := newCache("a.example.com", func(d *deployment) { d.Credential = static("v2") })
		cache.RepositoryCredentials = []component.RepositoryCredential{{Repositories: []string{"team-a"}, Credential: static("v2")}}
		deployed := credentialstate.Deployed{Wanted: static("v2"), Previous: static("v1")}
		status := active("v2")
		status.Since = metav1.NewTime(now.Add(-time.Minute))
		if change != nil {
			change(&cache, &deployed, status)
		}
		in := pullSecretInput{caches: []deployment{cache}, found: observed{
			status: providerStatus{caches: map[string]registry.RegistryCacheStatus{"a.example.com": {
				Credentials: status, RepositoryCredentials: []registry.RepositoryCredentialStatus{{Repositories: []string{"team-a"}, Credentials: *status}},
			}}},
			credentials: map[string]map[string]credentialstate.Deployed{cache.Name(): {"": deployed, credentials.Prefix([]string{"team-a"}): deployed}},
		}}
		in.caches = complete(in.caches, in.found, nil, certificates{})
		asked := false
		(&Actuator{Clock: testclock.NewFakeClock(now)}).keepUndistributed(in, func() bool {
			asked = true
			return distributed
		})
		Expect(asked).To(Equal(expected || distributed))
		for _, previous := range []*credentials.Named{in.caches[0].PreviousCredential, in.caches[0].RepositoryCredentials[0].Previous} {
			if expected {
				Expect(previous).To(Equal(static("v1")))
			} else {
				Expect(previous).To(BeNil())
			}
		}
	},
		Entry("while they have not", nil, false, true),
		Entry("until they have", nil, true, false),
		Entry("but not for long", func(_ *deployment, _ *credentialstate.Deployed, s *registry.CredentialsStatus) {
			s.Since = metav1.NewTime(s.Since.Add(-maxDistribution))
		}, false, false),
		Entry("but not without a pull secret", func(d *deployment, _ *credentialstate.Deployed, _ *registry.CredentialsStatus) {
			d.Cache.PullSecret = nil
		}, false, false),
		Entry("but not once the previous one is removed", func(_ *deployment, deployed *credentialstate.Deployed, _ *registry.CredentialsStatus) {
			deployed.Previous = nil
		}, false, false),
		Entry("but not after the change was reverted", func(d *deployment, _ *credentialstate.Deployed, s *registry.CredentialsStatus) {
			d.Credential = static("v1")
			d.RepositoryCredentials[0].Credential = static("v1")
			s.State = registry.CredentialsRejected
		}, false, false),
	)
})
