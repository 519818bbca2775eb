// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecret_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/pullsecret"
)

func TestPullSecret(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Pull Secret Suite")
}

const canary = "hunter2"

func account() pullsecret.Account {
	return pullsecret.Account{
		Cache: "registry-docker-io", Name: "builder", SecretName: "registry-docker-io.builder", Namespaces: []string{"ci"}, Repositories: []string{"library"},
		Registry: "registry-docker-io.kube-system.svc:5000",
	}
}

func feed() pullsecret.Feed {
	keys := credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: "AKIA", SecretAccessKey: canary}}
	static := credentials.Static(credentials.Credential{Username: "alice", Password: canary + "\xff"})
	return pullsecret.Feed{CABundle: "pem", Accounts: []pullsecret.Account{account()}, Secrets: []pullsecret.Secret{{
		Name: "pulls", Namespaces: []string{"a"}, NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "b"}},
		AddToDefaultServiceAccounts: true,
		Registries: []pullsecret.Registry{
			{
				Upstream: "registry.example.com", Host: "registry.example.com",
				Credentials: []pullsecret.Credential{{Name: "all", Material: &static}, {Name: "none", Repositories: []string{"team-a", "team-b"}}},
			},
			{
				Upstream: "123456789012.dkr.ecr.eu-central-1.amazonaws.com", Host: "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
				Connection:  pullsecret.Connection{HTTPSProxy: "http://u:" + canary + "@proxy", NoProxy: []string{"10.0.0.0/8"}, CABundle: "pem"},
				Credentials: []pullsecret.Credential{{Name: "keys", Material: &keys}},
			},
		},
	}}}
}

var _ = Describe("Feed", func() {
	It("survives its encoding", func() {
		encoded, err := feed().Encode()
		Expect(err).NotTo(HaveOccurred())
		decoded, err := pullsecret.DecodeFeed(encoded)
		Expect(err).NotTo(HaveOccurred())
		Expect(decoded).To(Equal(feed()))
	})

	It("has the Secrets of accounts beside pull secrets", func() {
		Expect(feed().Names()).To(Equal([]string{"pulls", "registry-docker-io.builder"}))
		Expect(feed().Caches()).To(Equal([]string{"registry-docker-io"}))
		Expect(pullsecret.Feed{}.IsEmpty()).To(BeTrue())
		Expect(pullsecret.Feed{Accounts: []pullsecret.Account{account()}}.IsEmpty()).To(BeFalse())
	})

	It("describes the Secret of an account for clients that know only one of its keys", func() {
		content := account().Content(canary, "pem")
		Expect(content).To(HaveLen(len(pullsecret.DataKeys())))
		for _, key := range pullsecret.DataKeys() {
			Expect(content).To(HaveKey(key))
		}
		Expect(content).To(HaveKeyWithValue("registry", []byte("registry-docker-io.kube-system.svc:5000")))
		Expect(content).To(HaveKeyWithValue("ca.crt", []byte("pem")))
		Expect(content).To(HaveKeyWithValue("username", []byte("larder.builder")))
		Expect(content).To(HaveKeyWithValue("password", []byte(canary)))
		Expect(pullsecret.DecodeAuths(content[".dockerconfigjson"])).To(Equal(pullsecret.Auths{"registry-docker-io.kube-system.svc:5000": []byte("larder.builder:" + canary)}))
	})

	It("encodes no list of pull secrets as an empty one", func() {
		encoded, err := pullsecret.Feed{}.Encode()
		Expect(err).NotTo(HaveOccurred())
		Expect(string(encoded)).To(Equal(`{"secrets":[]}`))
	})

	It("accepts fields of later versions", func() {
		Expect(pullsecret.DecodeFeed([]byte(`{"secrets":[],"later":1}`))).To(Equal(pullsecret.Feed{}))
	})

	DescribeTable("has no material where a later version has another form, and all other material", func(material string) {
		present := credentials.Static(credentials.Credential{Username: "alice", Password: "secret"})
		decoded, err := pullsecret.DecodeFeed([]byte(`{"secrets":[{"name":"pulls","registries":[{"upstream":"registry.example.com","host":"registry.example.com","credentials":[` +
			`{"name":"later","repositories":["a"],"material":` + material + `},{"name":"present","material":` + string(present.Encode()) + `}]}]}]}`))
		Expect(err).NotTo(HaveOccurred())
		Expect(decoded.Secrets[0].Registries[0].Credentials).To(Equal([]pullsecret.Credential{
			{Name: "later", Repositories: []string{"a"}}, {Name: "present", Material: &present},
		}))
	},
		Entry("an unknown form", `{"later":{}}`),
		Entry("an unknown provider", `{"workloadIdentity":{"provider":"later","config":"{}","token":"token"}}`),
		Entry("another encoding", `"text"`),
	)

	It("has each connection once", func() {
		bundle := strings.Repeat("x", 32<<10)
		var f pullsecret.Feed
		secret := pullsecret.Secret{Name: "pulls"}
		for i := range 100 {
			secret.Registries = append(secret.Registries, pullsecret.Registry{
				Upstream: fmt.Sprintf("r%d", i), Connection: pullsecret.Connection{CABundle: bundle, NoProxy: []string{fmt.Sprint(i % 2)}},
			})
		}
		f.Secrets = append(f.Secrets, secret)
		encoded, err := f.Encode()
		Expect(err).NotTo(HaveOccurred())
		Expect(len(encoded)).To(BeNumerically("<", 3*len(bundle)))
		Expect(pullsecret.DecodeFeed(encoded)).To(Equal(f))

		invalid := strings.ReplaceAll(string(encoded), `"connection":1`, `"connection":2`)
		decoded, err := pullsecret.DecodeFeed([]byte(invalid))
		Expect(err).NotTo(HaveOccurred())
		Expect(decoded.Secrets[0].Registries[1].Connection).To(Equal(pullsecret.Connection{}))
	})

	DescribeTable("does not quote an invalid feed", func(encoded string) {
		_, err := pullsecret.DecodeFeed([]byte(encoded))
		Expect(err).To(MatchError(Not(ContainSubstring(canary))))
	},
		Entry("no JSON", canary),
		Entry("another type", `{"secrets":"`+canary+`"}`),
	)

	It("refuses a feed that no Secret can hold", func() {
		large := feed()
		large.Secrets[0].Registries[1].Connection.CABundle = strings.Repeat("x", pullsecret.MaxFeed)
		_, err := large.Encode()
		Expect(err).To(MatchError(And(ContainSubstring("more than the maximum of 786432"), ContainSubstring("remove pullSecret from some caches"))))
	})

	It("shows no secret", func() {
		encoded, err := json.Marshal(feed())
		Expect(err).NotTo(HaveOccurred())
		for _, text := range []string{string(encoded), fmt.Sprint(feed()), fmt.Sprintf("%#v", feed()), fmt.Sprintf("%+v", feed())} {
			Expect(text).NotTo(ContainSubstring(canary))
		}
	})

	DescribeTable("finds what is published", func(name, upstream string, repositories []string, expected string) {
		found := feed().Published(name, upstream, repositories)
		if expected == "" {
			Expect(found).To(BeNil())
			return
		}
		Expect(found.Name).To(Equal(expected))
	},
		Entry("for all repositories", "pulls", "registry.example.com", nil, "all"),
		Entry("for some repositories, in any order", "pulls", "registry.example.com", []string{"team-b", "team-a"}, "none"),
		Entry("not for others", "pulls", "registry.example.com", []string{"team-a"}, ""),
		Entry("not for another registry", "pulls", "docker.io", nil, ""),
		Entry("not for another pull secret", "other", "registry.example.com", nil, ""),
	)

	DescribeTable("selects namespaces", func(secret pullsecret.Secret, expected bool) {
		Expect(secret.Selects("a", map[string]string{"team": "b"})).To(Equal(expected))
	},
		Entry("by name", pullsecret.Secret{Namespaces: []string{"b", "a"}}, true),
		Entry("by label", pullsecret.Secret{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "b"}}}, true),
		Entry("by either", pullsecret.Secret{Namespaces: []string{"a"}, NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "c"}}}, true),
		Entry("all", pullsecret.Secret{NamespaceSelector: &metav1.LabelSelector{}}, true),
		Entry("none by default", pullsecret.Secret{}, false),
		Entry("none of another name", pullsecret.Secret{Namespaces: []string{"ab"}}, false),
		Entry("none by an invalid selector", pullsecret.Secret{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: "?"}}}}, false),
	)
})

var _ = Describe("Auths", func() {
	DescribeTable("has the keys for which the kubelet looks", func(host string, repositories []string, expected ...string) {
		Expect(pullsecret.Keys(host, repositories)).To(Equal(expected))
	},
		Entry("a registry", "registry.example.com", nil, "registry.example.com"),
		Entry("a port", "registry.example.com:5000", nil, "registry.example.com:5000"),
		Entry("Docker Hub", "docker.io", nil, "docker.io", "https://index.docker.io/v1/"),
		Entry("another name of Docker Hub", "index.docker.io", nil, "docker.io", "https://index.docker.io/v1/"),
		Entry("repositories", "registry.example.com:5000", []string{"team-a", "b/c"}, "registry.example.com:5000/team-a", "registry.example.com:5000/b/c"),
		Entry("repositories of Docker Hub", "index.docker.io", []string{"library"}, "docker.io/library"),
		Entry("a repository that looks like a version of the API", "registry.example.com", []string{"v1/app", "v2/app", "v2"},
			"registry.example.com/v2/v1/app", "registry.example.com/v2/v2/app", "registry.example.com/v2"),
	)

	add := func(auths pullsecret.Auths, upstream string, repositories []string, c credentials.Credential) error {
		return auths.Add(pullsecret.Registry{Upstream: upstream, Host: upstream}, repositories, c)
	}

	It("survives its encoding, whatever the bytes of the password", func() {
		auths := pullsecret.Auths{}
		Expect(add(auths, "a.example.com", nil, credentials.Credential{Username: "alice", Password: "a:\xff\"\n"})).To(Succeed())
		encoded := auths.Encode()
		Expect(pullsecret.DecodeAuths(encoded)).To(Equal(pullsecret.Auths{"a.example.com": []byte("alice:a:\xff\"\n")}))
		Expect(string(encoded)).To(Equal(`{"auths":{"a.example.com":{"auth":"YWxpY2U6YTr/Igo="}}}`))
	})

	DescribeTable("takes an invalid configuration for an empty one", func(config string) {
		Expect(pullsecret.DecodeAuths([]byte(config))).To(BeEmpty())
	},
		Entry("nothing", ""), Entry("no JSON", "{"), Entry("another type", `{"auths":{"a":{"auth":1}}}`), Entry("no entries", "{}"))

	It("keeps the first of two credentials with a key", func() {
		auths := pullsecret.Auths{}
		Expect(add(auths, "docker.io", nil, credentials.Credential{Username: "a", Password: "1"})).To(Succeed())
		Expect(add(auths, "index.docker.io", nil, credentials.Credential{Username: "b", Password: "2"})).To(Succeed())
		Expect(string(auths["docker.io"])).To(Equal("a:1"))
	})

	DescribeTable("has at most the size that is known before", func(material credentials.Material, issued credentials.Credential) {
		registry := pullsecret.Registry{Upstream: "registry.example.com", Host: "registry.example.com", Credentials: []pullsecret.Credential{
			{Name: "none", Repositories: []string{"c"}}, {Name: "some", Repositories: []string{"a", "b"}, Material: &material},
		}}
		auths := pullsecret.Auths{}
		Expect(add(auths, "registry.example.com", []string{"a", "b"}, issued)).To(Succeed())
		size := pullsecret.Secret{Registries: []pullsecret.Registry{registry}}.ConfigSize()
		if material.IsStatic() {
			Expect(size).To(Equal(len(auths.Encode())))
		} else {
			Expect(size).To(BeNumerically(">=", len(auths.Encode())))
		}
	},
		Entry("of a credential", credentials.Static(credentials.Credential{Username: "a", Password: "1"}), credentials.Credential{Username: "a", Password: "1"}),
		Entry("of an issued credential", credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: "a", SecretAccessKey: "b"}},
			credentials.Credential{Username: "AWS", Password: strings.Repeat("x", 3<<10)}),
	)

	It("keeps deployed entries of its registry only where it has none", func() {
		auths := pullsecret.Auths{"a.example.com": []byte("new:1")}
		deployed := pullsecret.Auths{"a.example.com": []byte("old:1"), "a.example.com/x": []byte("old:2"), "b.example.com": []byte("old:3")}
		auths.Keep(pullsecret.Registry{Upstream: "a.example.com"}, nil, deployed)
		auths.Keep(pullsecret.Registry{Upstream: "a.example.com"}, []string{"x"}, deployed)
		Expect(slices.Sorted(maps.Keys(auths))).To(Equal([]string{"a.example.com", "a.example.com/x"}))
		Expect(string(auths["a.example.com"])).To(Equal("new:1"))
	})

	It("takes an identity token as the password where the registry does", func() {
		auths := pullsecret.Auths{}
		token := credentials.Credential{IdentityToken: "token"}
		Expect(add(auths, "contoso.azurecr.io", nil, token)).To(Succeed())
		Expect(string(auths["contoso.azurecr.io"])).To(Equal("00000000-0000-0000-0000-000000000000:token"))
		Expect(add(auths, "registry.example.com", nil, token)).To(MatchError(pullsecret.ErrUnusable))
		Expect(add(auths, "registry.example.com", nil, credentials.Credential{RegistryToken: "token"})).To(MatchError(pullsecret.ErrUnusable))
	})
})

var _ = Describe("Report", func() {
	DescribeTable("is done", func(report pullsecret.Report, expected bool) {
		Expect(report.Done("x")).To(Equal(expected))
	},
		Entry("when all namespaces follow", pullsecret.Report{Feed: "x"}, true),
		Entry("with foreign Secrets", pullsecret.Report{Feed: "x", Secrets: []pullsecret.SecretReport{{Foreign: pullsecret.Namespaces{Count: 1}}}}, true),
		Entry("not before it follows", pullsecret.Report{Feed: "y"}, false),
		Entry("not while namespaces do not follow", pullsecret.Report{Feed: "x", Outstanding: 1}, false),
		Entry("not while a reference remains", pullsecret.Report{Feed: "x", References: pullsecret.Namespaces{Count: 1}}, false),
		Entry("not before the first attempt to issue a credential", pullsecret.Report{Feed: "x", Unissued: 1}, false),
		Entry("not without a credential", pullsecret.Report{Feed: "x", Secrets: []pullsecret.SecretReport{{Credential: "rejected"}}}, false),
		Entry("not without a stored password", pullsecret.Report{Feed: "x", Secrets: []pullsecret.SecretReport{{Storage: "Forbidden"}}}, false),
		Entry("not after a failure", pullsecret.Report{Feed: "x", Secrets: []pullsecret.SecretReport{{Failed: pullsecret.Namespaces{Count: 1}}}}, false),
	)

	It("is bounded", func() {
		var report pullsecret.Report
		for range pullsecret.MaxSecrets + pullsecret.MaxAccounts {
			secret := pullsecret.SecretReport{
				Name: strings.Repeat("n", 2*63+1), Reason: strings.Repeat("r", pullsecret.MaxReason),
				Credential: strings.Repeat("c", pullsecret.MaxReason), Storage: strings.Repeat("s", pullsecret.MaxReason),
			}
			for range 1000 {
				secret.Foreign.Add(strings.Repeat("f", 63))
				secret.Failed.Add(strings.Repeat("f", 63))
				secret.Unreferenced.Add(strings.Repeat("f", 63))
				report.References.Add(strings.Repeat("f", 63))
			}
			report.Secrets = append(report.Secrets, secret)
		}
		encoded, err := json.Marshal(report)
		Expect(err).NotTo(HaveOccurred())
		Expect(len(encoded)).To(BeNumerically("<", pullsecret.MaxReport))
	})
})
