// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"slices"

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
			{Repositories: teamA, Credential: *version("a2")}, {Repositories: teamB, Credential: *version("b1")},
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
})
