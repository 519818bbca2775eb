// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"cmp"
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Deployment", func() {
	newCache := func(tls bool) deployment {
		cache := deployment{Values: component.Values{
			Cache: registry.RegistryCache{
				Upstream:          "docker.io",
				RemoteURL:         new("https://registry-1.docker.io"),
				Volume:            &registry.Volume{Size: new(resource.MustParse("10Gi"))},
				GarbageCollection: &registry.GarbageCollection{TTL: &metav1.Duration{}},
				HTTP:              &registry.HTTP{TLS: &tls},
				HighAvailability:  &registry.HighAvailability{},
			},
			KubernetesVersion: semver.MustParse("1.36.3"),
		}}
		if tls {
			cache.Certificate = &component.Certificate{Certificate: []byte("certificate"), Key: []byte("key")}
		}
		return cache
	}
	isTLSSecret := func(object client.Object) bool { return object.GetName() == "registry-docker-io-tls" }

	It("keeps the deployed objects of a cache that stays as it is, except for its certificate", func() {
		deployed, err := newCache(true).objects()
		Expect(err).NotTo(HaveOccurred())
		cache := newCache(false)
		cache.Deployed = deployed
		cache.Certificate = &component.Certificate{Certificate: []byte("renewed certificate"), Key: []byte("renewed key")}
		Expect(cache.ServesTLS()).To(BeTrue(), "whatever its owner wants now")

		objects, err := cache.objects()
		Expect(err).NotTo(HaveOccurred())
		Expect(objects).To(HaveLen(len(deployed)))
		for i, object := range objects {
			if isTLSSecret(object) {
				Expect(object.(*corev1.Secret).Data).To(HaveKeyWithValue("tls.crt", []byte("renewed certificate")))
			} else {
				Expect(object).To(Equal(deployed[i]))
			}
		}

		cache.Deployed = slices.DeleteFunc(slices.Clone(deployed), isTLSSecret)
		Expect(cache.ServesTLS()).To(BeFalse())
		_, err = cache.objects()
		Expect(err).To(MatchError(ContainSubstring("docker.io")))
	})

	It("renews the authorities of nodes of a cache that stays as it is", func() {
		before := newCache(true)
		before.Cache.Access = &registry.Access{Mode: registry.AccessNodes}
		before.Access = &component.Access{DebugToken: component.NewDebugToken(), ClientCAs: []byte("old")}
		deployed, err := before.objects()
		Expect(err).NotTo(HaveOccurred())
		cache := newCache(true)
		cache.Deployed = deployed
		kept := complete([]deployment{cache}, observed{}, nil, certificates{
			caBundle: []byte("old and new"),
			secrets:  map[string]*corev1.Secret{certificateName(cache): {}},
		})[0]
		objects, err := kept.objects()
		Expect(err).NotTo(HaveOccurred())
		secret := objects[slices.IndexFunc(objects, func(object client.Object) bool { return object.GetName() == "registry-docker-io-access" })].(*corev1.Secret)
		Expect(secret.Data).To(HaveKeyWithValue("client-ca.crt", []byte("old and new")))
		Expect(secret.Data).To(HaveKeyWithValue("debug-token", []byte(before.Access.DebugToken)))
	})

	DescribeTable("reports the access to a cache that stays as it is, not the configured one", func(deployed, configured registry.AccessMode, deployedAccounts, accounts int) {
		before := newCache(true)
		if deployed != registry.AccessCluster {
			before.Cache.Access = &registry.Access{Mode: deployed}
			if deployed == registry.AccessPullSecrets {
				before.Cache.Access.GrantDuration, before.Cache.Access.OutageGrantDuration = &metav1.Duration{Duration: 30 * time.Second}, &metav1.Duration{}
			}
			before.Cache.Accounts = make([]registry.Account, deployedAccounts)
			before.Access = &component.Access{DebugToken: component.NewDebugToken(), ClientCAs: []byte("bundle")}
		}
		objects, err := before.objects()
		Expect(err).NotTo(HaveOccurred())
		Expect(component.AccessOf(objects)).To(Equal(*cmp.Or(before.Cache.Access, &registry.Access{Mode: registry.AccessCluster})))
		cache := newCache(true)
		cache.Deployed = objects
		cache.Cache.Access = &registry.Access{Mode: configured}
		cache.Cache.Accounts = []registry.Account{{Name: "builder"}}
		Expect(cache.accessMode()).To(Equal(deployed))
		Expect(cache.onlyForNodes()).To(Equal(deployed == registry.AccessNodes))
		Expect(cache.accounts()).To(HaveLen(accounts))
	},
		Entry("open, to be restricted", registry.AccessCluster, registry.AccessPullSecrets, 0, 0),
		Entry("for pull secrets, to be for nodes", registry.AccessPullSecrets, registry.AccessNodes, 0, 0),
		Entry("for nodes, to be open", registry.AccessNodes, registry.AccessCluster, 0, 0),
		Entry("for nodes and accounts", registry.AccessNodes, registry.AccessNodes, 1, 1),
	)

	It("falls back on the credential that is deployed", func() {
		version := func(name string) *credentials.Named {
			return &credentials.Named{Name: name, Material: credentials.Static(credentials.Credential{Username: "robot", Password: "password of " + name})}
		}
		cache := newCache(false)
		cache.Credential = version("v2")
		found := observed{credentials: map[string]map[string]credentialstate.Deployed{cache.Name(): {"": {Wanted: version("v1")}}}}
		completed := complete([]deployment{cache}, found, nil, certificates{})
		Expect(completed).To(ConsistOf(HaveField("PreviousCredential", HaveValue(Equal(*version("v1"))))))
		Expect(cache.PreviousCredential).To(BeNil())
	})

	It("falls back on the deployed credential of each part of the upstream, and reports each by itself", func() {
		version := func(name string) *credentials.Named {
			return &credentials.Named{Name: name, Material: credentials.Static(credentials.Credential{Username: "robot", Password: "password of " + name})}
		}
		teamA, teamB := []string{"team-a"}, []string{"team-b", "team-c"}
		cache := newCache(false)
		cache.Credential = version("v2")
		cache.RepositoryCredentials = []component.RepositoryCredential{
			{Repositories: teamA, Credential: version("a2")}, {Repositories: teamB, Credential: version("b1")},
		}
		found := observed{credentials: map[string]map[string]credentialstate.Deployed{cache.Name(): {
			"": {Wanted: version("v2")}, credentials.Prefix(teamA): {Wanted: version("a1")}, credentials.Prefix(teamB): {Wanted: version("b1")},
		}}}
		completed := complete([]deployment{cache}, found, nil, certificates{})[0]
		Expect(completed.PreviousCredential).To(BeNil())
		Expect(completed.RepositoryCredentials[0].Previous).To(HaveValue(Equal(*version("a1"))))
		Expect(completed.RepositoryCredentials[1].Previous).To(BeNil())
		Expect(cache.RepositoryCredentials[0].Previous).To(BeNil())

		active := func(name string) registry.CredentialsStatus {
			return registry.CredentialsStatus{SecretName: name, State: registry.CredentialsActive}
		}
		before := registry.RegistryCacheStatus{
			Credentials: new(active("v2")),
			RepositoryCredentials: []registry.RepositoryCredentialStatus{
				{Repositories: []string{"team-c", "team-b"}, Credentials: active("b1")}, {Repositories: teamA, Credentials: active("a1")},
			},
		}
		status, repositories := credentialStatuses(completed, before, metav1.Now())
		Expect(status).To(HaveValue(Equal(active("v2"))))
		Expect(repositories).To(HaveExactElements(
			And(HaveField("Repositories", teamA), HaveField("Credentials", And(
				HaveField("SecretName", "a1"), HaveField("PendingSecretName", "a2"), HaveField("State", registry.CredentialsPending)))),
			And(HaveField("Repositories", teamB), HaveField("Credentials", active("b1"))),
		))
	})

	Describe("with references that cannot be used", func() {
		var (
			teamA, teamB = []string{"team-a"}, []string{"team-b"}
			identity     = func(token string) *credentials.Named {
				return &credentials.Named{Name: credentials.IdentityName("puller"), Material: credentials.Material{WorkloadIdentity: credentials.WorkloadIdentity{
					Provider: credentials.ProviderAWS, Config: `{"roleARN":"arn:aws:iam::123456789012:role/puller"}`, Token: token,
				}}}
			}
			static = func(name string) *credentials.Named {
				return &credentials.Named{Name: name, Material: credentials.Static(credentials.Credential{Username: "robot", Password: "password of " + name})}
			}
			// newValues are those of a cache with everything that can be referenced.
			newValues = func() deployment {
				cache := newCache(false)
				cache.Cache.SecretReferenceName = new("default")
				cache.Cache.CABundleSecretReferenceName, cache.Cache.ClientCertificateSecretReferenceName = new("ca"), new("certificate")
				cache.Cache.Proxy = &registry.Proxy{HTTPSProxy: new("http://proxy.example.com"), SecretReferenceName: new("proxy")}
				cache.Credential = static("default-v1")
				cache.RepositoryCredentials = []component.RepositoryCredential{
					{Repositories: teamA, Credential: identity("first")}, {Repositories: teamB, Credential: static("b-v1")},
				}
				cache.Connection = component.Connection{
					CABundle:          []byte("bundle"),
					ClientCertificate: &component.Certificate{Certificate: []byte("certificate"), Key: []byte("key")},
					ProxyCredential:   &credentials.Credential{Username: "proxy", Password: "example"},
				}
				return cache
			}
			files = func(cache deployment) map[string][]byte {
				GinkgoHelper()
				objects, err := cache.objects()
				Expect(err).NotTo(HaveOccurred())
				i := slices.IndexFunc(objects, component.IsCredentialsSecret)
				Expect(i).To(BeNumerically(">=", 0))
				return objects[i].(*corev1.Secret).Data
			}
			expectEntry = func(files map[string][]byte, repositories []string, wanted *credentials.Named) {
				GinkgoHelper()
				got, _ := credentials.FromFiles(credentials.Prefix(repositories), files)
				Expect(got).To(Equal(wanted))
			}
			deployed []client.Object
		)

		BeforeEach(func() {
			var err error
			deployed, err = newValues().objects()
			Expect(err).NotTo(HaveOccurred())
		})

		DescribeTable("keeps only what these references deployed, and follows all others",
			func(lose func(*deployment)) {
				next := newValues()
				next.RepositoryCredentials[0].Credential = identity("second")
				lose(&next)
				Expect(next.keep(deployed)).To(BeTrue())
				Expect(next.Deployed).To(BeNil())
				Expect(next.Connection).To(Equal(newValues().Connection))
				expectEntry(files(next), nil, static("default-v1"))
				expectEntry(files(next), teamA, identity("second"))
				expectEntry(files(next), teamB, static("b-v1"))
			},
			Entry("the credential of a team", func(d *deployment) { d.RepositoryCredentials[1].Credential = nil }),
			Entry("the default credential", func(d *deployment) { d.Credential = nil }),
			Entry("the CA bundle", func(d *deployment) { d.Connection.CABundle = nil }),
			Entry("the client certificate", func(d *deployment) { d.Connection.ClientCertificate = nil }),
			Entry("the proxy's credential", func(d *deployment) { d.Connection.ProxyCredential = nil }),
		)

		It("does not keep what is no longer referenced", func() {
			next := newValues()
			next.Cache.SecretReferenceName, next.Cache.CABundleSecretReferenceName, next.Cache.ClientCertificateSecretReferenceName, next.Cache.Proxy = nil, nil, nil, nil
			next.Credential, next.Connection = nil, component.Connection{}
			next.RepositoryCredentials[1].Credential = nil
			Expect(next.keep(deployed)).To(BeTrue())
			Expect(next.Credential).To(BeNil())
			Expect(next.Connection).To(BeZero())
			expectEntry(files(next), teamB, static("b-v1"))
		})

		It("deploys a cache without the credential of a team that was never deployed, whose repositories it then refuses", func() {
			next := newValues()
			next.RepositoryCredentials[1].Credential = nil
			Expect(next.keep(nil)).To(BeTrue())
			expectEntry(files(next), teamA, identity("first"))
			expectEntry(files(next), teamB, nil)
			objects, err := next.objects()
			Expect(err).NotTo(HaveOccurred())
			Expect(objects[0].(*corev1.Secret).Data).To(HaveKeyWithValue("config.yml", ContainSubstring(credentials.Prefix(teamB))))

			_, statuses := credentialStatuses(next, registry.RegistryCacheStatus{}, metav1.Now())
			Expect(statuses).To(ConsistOf(HaveField("Repositories", teamA)))

			By("keeping what the Shoot has, after a change of seed")
			found := observed{credentials: map[string]map[string]credentialstate.Deployed{next.Name(): {credentials.Prefix(teamB): {Wanted: static("b-v1")}}}}
			expectEntry(files(complete([]deployment{next}, found, nil, certificates{})[0]), teamB, static("b-v1"))
		})

		It("keeps the whole cache, apart from tokens, if something that all requests need was never deployed", func() {
			next := newValues()
			next.RepositoryCredentials[0].Credential, next.RepositoryCredentials[1].Credential = identity("second"), static("b-v2")
			next.Connection.CABundle = nil
			Expect(next.keep(nil)).To(BeFalse())

			withoutBundle := newValues()
			withoutBundle.Cache.CABundleSecretReferenceName, withoutBundle.Connection.CABundle = nil, nil
			deployed, err := withoutBundle.objects()
			Expect(err).NotTo(HaveOccurred())
			Expect(next.keep(deployed)).To(BeTrue())
			Expect(next.Deployed).To(Equal(deployed))
			expectEntry(files(next), nil, static("default-v1"))
			expectEntry(files(next), teamA, identity("second"))
			expectEntry(files(next), teamB, static("b-v1"))
		})

		It("never makes a cache anonymous", func() {
			next, before := newValues(), newValues()
			before.Cache.SecretReferenceName, before.Credential = nil, nil
			deployed, err := before.objects()
			Expect(err).NotTo(HaveOccurred())
			next.Credential = nil
			Expect(next.keep(deployed)).To(BeTrue())
			Expect(next.Deployed).To(Equal(deployed))
		})
	})
})
