// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	vpaautoscalingv1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/client-go/kubernetes/scheme"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Cache", func() {
	DescribeTable("builds", func(name string, values cache.Values) {
		rendered := render(allObjects(values))

		golden := filepath.Join("testdata", name+".yaml")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			Expect(os.MkdirAll("testdata", 0o755)).To(Succeed())
			Expect(os.WriteFile(golden, rendered, 0o644)).To(Succeed())
		}
		expected, err := os.ReadFile(golden)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(rendered)).To(Equal(string(expected)))
	},
		Entry("an anonymous cache without TLS", "plain", plain()),
		Entry("a private, highly available cache with all objects", "private-ha", privateHA()),
		Entry("a cache with a private CA, a client certificate, an authenticating proxy and a slow upstream", "connected", connected()),
		Entry("a cache with credentials for some repositories", "repositories", withRepositories()),
		Entry("a cache for clients with pull secrets and accounts", "pull-secrets", withPullSecrets()),
		Entry("a cache for nodes", "nodes", forNodes()),
	)

	It("builds a cache whose default access is written out like any other", func() {
		values := privateHA()
		values.Cache.Access = &registry.Access{Mode: registry.AccessCluster}
		Expect(render(allObjects(values))).To(Equal(render(allObjects(privateHA()))))
	})

	It("is not built without what its access needs", func() {
		values := forNodes()
		values.Access = nil
		_, err := cache.Objects(values)
		Expect(err).To(MatchError(ContainSubstring("a debug token is required if and only if the cache restricts access")))
		values = privateHA()
		values.Access = &cache.Access{}
		_, err = cache.Objects(values)
		Expect(err).To(HaveOccurred())
	})

	It("finds the debug token that it has created", func() {
		values := forNodes()
		values.Access.DebugToken = cache.NewDebugToken()
		Expect(cache.NewDebugToken()).NotTo(Equal(values.Access.DebugToken))
		token, ok := cache.DebugToken(cache.AccessSecret(values))
		Expect(ok).To(BeTrue())
		Expect(token).To(Equal(values.Access.DebugToken))
		for _, other := range []string{"", "x", token + "\n", token + token, "x\r\nHost: example.com"} {
			_, ok := cache.DebugToken(&corev1.Secret{Data: map[string][]byte{"debug-token": []byte(other)}})
			Expect(ok).To(BeFalse(), other)
		}
		Expect(cache.RequiresDebugToken(&corev1.Pod{Spec: statefulSet(values).Spec.Template.Spec})).To(BeTrue())
		Expect(cache.RequiresDebugToken(&corev1.Pod{Spec: statefulSet(privateHA()).Spec.Template.Spec})).To(BeFalse())
	})

	It("names the annotations of credentials after their first repository, without collisions", func() {
		const prefix = "secret-name.registry.extensions.gardener.cloud/"
		names := map[string]bool{}
		for _, repository := range []string{"team-a", "team-a/app", "team-a.app", strings.Repeat("a/", 100) + "b", strings.Repeat("a/", 100) + "c"} {
			name := cache.RepositorySecretNameAnnotation([]string{repository, "other"})
			Expect(validation.IsQualifiedName(name)).To(BeEmpty())
			names[name] = true
		}
		Expect(names).To(And(HaveLen(5), HaveKey(prefix+"team-a"), HaveKey(prefix+"team-a..app"), HaveKey(prefix+"team-a.app")))
	})

	It("returns the objects in a fixed order", func() {
		objects, err := cache.Objects(privateHA())
		Expect(err).NotTo(HaveOccurred())
		kinds := make([]string, 0, len(objects))
		for _, object := range objects {
			gvk, err := apiutil.GVKForObject(object, testScheme())
			Expect(err).NotTo(HaveOccurred())
			kinds = append(kinds, gvk.Kind)
		}
		Expect(kinds).To(Equal([]string{"Secret", "Secret", "Secret", "StatefulSet", "NetworkPolicy", "PodDisruptionBudget", "VerticalPodAutoscaler"}))
	})

	DescribeTable("prefers traffic within the zone", func(version, expected string) {
		values := plain()
		values.KubernetesVersion = semver.MustParse(version)
		service := cache.Service(values)
		Expect(service.Spec.TrafficDistribution).To(HaveValue(Equal(expected)))
	},
		Entry("before Kubernetes 1.34", "1.33.9", "PreferClose"),
		Entry("a vendor's version before Kubernetes 1.34", "1.33.9-vendor.1", "PreferClose"),
		Entry("Kubernetes 1.34", "1.34.0", "PreferSameZone"),
		Entry("a vendor's version of Kubernetes 1.34", "1.34.0-vendor.1", "PreferSameZone"),
		Entry("later", "1.36.3", "PreferSameZone"),
	)

	It("uses the suffix only for the name of the Service", func() {
		values := plain()
		values.Cache.ServiceNameSuffix = new("hub")
		Expect(cache.Service(values).Name).To(Equal("registry-hub"))
		Expect(statefulSet(values).Name).To(Equal("registry-docker-io"))
		Expect(statefulSet(values).Spec.ServiceName).To(Equal("registry-hub"))
	})

	It("names claims as the StatefulSet controller does", func() {
		Expect(cache.ClaimName("registry-docker-io", 0)).To(Equal("cache-volume-registry-docker-io-0"))
	})

	It("has a surplus claim after high availability is disabled", func() {
		Expect(cache.SurplusClaims(plain())).To(ConsistOf("cache-volume-registry-docker-io-1"))
		Expect(cache.SurplusClaims(privateHA())).To(BeEmpty())
	})

	DescribeTable("complies with the restricted pod security standard", func(values cache.Values) {
		template := statefulSet(values).Spec.Template
		evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
		Expect(err).NotTo(HaveOccurred())
		level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
		for _, result := range evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec) {
			Expect(result.Allowed).To(BeTrue(), result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	},
		Entry("plain", plain()),
		Entry("private, highly available", privateHA()),
		Entry("with a Secret for its connections", connected()),
		Entry("with accounts", withPullSecrets()),
	)

	DescribeTable("names the Secret in use", func(change func(*cache.Values), expected types.GomegaMatcher) {
		values := privateHA()
		change(&values)
		Expect(statefulSet(values).Annotations).To(expected)
	},
		Entry("while the credential is rotated", func(*cache.Values) {}, HaveKeyWithValue(cache.SecretNameAnnotation, "robot-v0")),
		Entry("when the previous credential is not needed any more", func(v *cache.Values) { v.PreviousCredential = nil }, HaveKeyWithValue(cache.SecretNameAnnotation, "robot-v1")),
		Entry("unless there is none", func(v *cache.Values) { v.Credential, v.PreviousCredential = nil, nil }, Not(HaveKey(cache.SecretNameAnnotation))),
	)

	Describe("restarts", func() {
		var before cache.Values

		BeforeEach(func() {
			before = privateHA()
		})

		templateOf := func(values cache.Values) corev1.PodTemplateSpec {
			return statefulSet(values).Spec.Template
		}

		DescribeTable("the server if", func(change func(*cache.Values)) {
			after := privateHA()
			change(&after)
			Expect(templateOf(after)).NotTo(Equal(templateOf(before)))
		},
			Entry("its configuration changes", func(v *cache.Values) { v.Cache.RemoteURL = new("https://mirror.example.com") }),
			Entry("it gets a credential for the first time", func(v *cache.Values) { v.Credential = nil }),
			Entry("it gets a credential for some repositories", func(v *cache.Values) { v.RepositoryCredentials = withRepositories().RepositoryCredentials }),
			Entry("its image changes", func(v *cache.Values) { v.Image = "example.com/registry-cache-server:v2" }),
			Entry("its access changes", func(v *cache.Values) {
				v.Cache.Access = &registry.Access{Mode: registry.AccessPullSecrets}
				v.Access = &cache.Access{DebugToken: "token"}
			}),
			Entry("a proxy changes", func(v *cache.Values) { v.Cache.Proxy.HTTPSProxy = new("http://other.example.com") }),
		)

		DescribeTable("nothing if", func(change func(*cache.Values)) {
			after := privateHA()
			change(&after)
			Expect(templateOf(after)).To(Equal(templateOf(before)))
		},
			Entry("the certificate is renewed", func(v *cache.Values) { v.Certificate.Certificate = []byte("renewed") }),
			Entry("the volume grows", func(v *cache.Values) { v.Cache.Volume.Size = new(resource.MustParse("100Gi")) }),
			Entry("the name of the Service changes", func(v *cache.Values) { v.Cache.ServiceNameSuffix = new("other") }),
			Entry("the credential is rotated", func(v *cache.Values) {
				v.PreviousCredential = v.Credential
				v.Credential = &credentials.Named{Name: "robot-v2", Material: credentials.Static(credentials.Credential{Username: "robot$v2", Password: "second"})}
			}),
			Entry("the previous credential is dropped", func(v *cache.Values) { v.PreviousCredential = nil }),
			Entry("vertical autoscaling is disabled", func(v *cache.Values) { v.VerticalPodAutoscaler = false }),
		)

		DescribeTable("nothing if the connection is rotated:", func(change func(*cache.Connection)) {
			before, after := connected(), connected()
			change(&after.Connection)
			Expect(cache.ConnectionSecret(after)).NotTo(Equal(cache.ConnectionSecret(before)))
			Expect(statefulSet(after)).To(Equal(statefulSet(before)))
			Expect(configOf(after)).To(Equal(configOf(before)))
		},
			Entry("its CA bundle", func(c *cache.Connection) { c.CABundle = []byte("another CA") }),
			Entry("its client certificate", func(c *cache.Connection) {
				c.ClientCertificate = &cache.Certificate{Certificate: []byte("another certificate"), Key: []byte("another key")}
			}),
			Entry("its credential for proxies", func(c *cache.Connection) {
				c.ProxyCredential = &credentials.Credential{Username: "other", Password: "another password"}
			}),
		)

		DescribeTable("nothing if the access keeps its mode:", func(change func(*cache.Values)) {
			for _, values := range []func() cache.Values{withPullSecrets, forNodes} {
				before, after := values(), values()
				before.Cache.Accounts, after.Cache.Accounts = withPullSecrets().Cache.Accounts, withPullSecrets().Cache.Accounts
				change(&after)
				Expect(statefulSet(after)).To(Equal(statefulSet(before)))
				Expect(configOf(after)).To(Equal(configOf(before)))
			}
		},
			Entry("another CA", func(v *cache.Values) { v.Access.ClientCAs = []byte("another CA") }),
			Entry("another token", func(v *cache.Values) { v.Access.DebugToken = "another token" }),
			Entry("another account", func(v *cache.Values) { v.Cache.Accounts = append(v.Cache.Accounts, registry.Account{Name: "scanner"}) }),
		)

		It("the server with the first account of a cache, and without the last", func() {
			for _, before := range []cache.Values{withPullSecrets(), forNodes()} {
				before.Cache.Accounts = nil
				after := before
				after.Cache.Accounts = withPullSecrets().Cache.Accounts
				Expect(templateOf(after)).NotTo(Equal(templateOf(before)))
			}
		})

		It("the server if a connection needs a file for the first time", func() {
			for _, change := range []func(*cache.Connection){
				func(c *cache.Connection) { c.CABundle = nil },
				func(c *cache.Connection) { c.ClientCertificate = nil },
				func(c *cache.Connection) { c.ProxyCredential = nil },
			} {
				before := connected()
				change(&before.Connection)
				Expect(templateOf(connected())).NotTo(Equal(templateOf(before)))
			}
		})

		It("nothing if the credential of some repositories is rotated", func() {
			after := withRepositories()
			rotated := &after.RepositoryCredentials[0]
			rotated.Previous = &credentials.Named{Name: "team-a-v1", Material: rotated.Credential.Material}
			rotated.Credential = &credentials.Named{Name: "team-a-v2", Material: credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: "other", SecretAccessKey: "other"}}}
			Expect(templateOf(after)).To(Equal(templateOf(withRepositories())))
			Expect(configOf(after)).To(Equal(configOf(withRepositories())))
			Expect(cache.CredentialsSecret(after).Data).NotTo(Equal(cache.CredentialsSecret(withRepositories()).Data))
		})

		It("does not derive readable fields from the content of a credential", func() {
			after := privateHA()
			after.Credential = &credentials.Named{Name: "robot-v2", Material: credentials.Static(credentials.Credential{Username: "other", Password: "other"})}
			Expect(statefulSet(after)).To(Equal(statefulSet(before)))
			Expect(configOf(after)).To(Equal(configOf(before)))
			Expect(cache.CredentialsSecret(after).Data).NotTo(Equal(cache.CredentialsSecret(before).Data))
		})
	})

	It("has no probe that depends on the upstream", func() {
		container := statefulSet(privateHA()).Spec.Template.Spec.Containers[0]
		Expect(container.StartupProbe.HTTPGet.Path).To(Equal("/"))
		Expect(container.LivenessProbe.HTTPGet.Path).To(Equal("/"))
		Expect(container.ReadinessProbe.HTTPGet.Path).To(Equal("/debug/health"))
		Expect(container.LivenessProbe.HTTPGet.Scheme).To(Equal(corev1.URISchemeHTTPS))
		Expect(statefulSet(plain()).Spec.Template.Spec.Containers[0].LivenessProbe.HTTPGet.Scheme).To(Equal(corev1.URISchemeHTTP))
	})

	It("refuses TLS without a certificate, and a certificate without TLS", func() {
		values := privateHA()
		values.Certificate = nil
		_, err := cache.Objects(values)
		Expect(err).To(MatchError(ContainSubstring("private.example.com:5443")))

		values = plain()
		values.Certificate = &cache.Certificate{}
		_, err = cache.Objects(values)
		Expect(err).To(HaveOccurred())
	})
})

func plain() cache.Values {
	return cache.Values{
		Cache: registry.RegistryCache{
			Upstream:          "docker.io",
			RemoteURL:         new("https://registry-1.docker.io"),
			Volume:            &registry.Volume{Size: new(resource.MustParse("10Gi"))},
			GarbageCollection: &registry.GarbageCollection{TTL: &metav1.Duration{Duration: 168 * time.Hour}},
			HTTP:              &registry.HTTP{TLS: new(false)},
			HighAvailability:  &registry.HighAvailability{},
		},
		Image:             "example.com/registry-cache-server:v1",
		KubernetesVersion: semver.MustParse("1.33.1"),
	}
}

// withRepositories is an otherwise anonymous cache with credentials for some repositories.
func withRepositories() cache.Values {
	values := plain()
	values.RepositoryCredentials = []cache.RepositoryCredential{
		{
			Repositories: []string{"team-a/app", "team-a/tool"},
			Credential:   &credentials.Named{Name: "team-a-v1", Material: credentials.Static(credentials.Credential{Username: "robot-a", Password: "example"})},
		},
		{
			Repositories: []string{"team-b"},
			Credential:   &credentials.Named{Name: "team-b-v2", Material: credentials.Static(credentials.Credential{IdentityToken: "example"})},
			Previous:     &credentials.Named{Name: "team-b-v1", Material: credentials.Static(credentials.Credential{RegistryToken: "example"})},
		},
	}
	return values
}

func privateHA() cache.Values {
	return cache.Values{
		Cache: registry.RegistryCache{
			Upstream:          "private.example.com:5443",
			RemoteURL:         new("https://private.example.com:5443"),
			Volume:            &registry.Volume{Size: new(resource.MustParse("50Gi")), StorageClassName: new("fast")},
			GarbageCollection: &registry.GarbageCollection{TTL: &metav1.Duration{}},
			Proxy:             &registry.Proxy{HTTPProxy: new("http://proxy.example.com:3128"), HTTPSProxy: new("http://proxy.example.com:3129")},
			HTTP:              &registry.HTTP{TLS: new(true)},
			HighAvailability:  &registry.HighAvailability{Enabled: true},
			ServiceNameSuffix: new("private"),
			TagValidation:     &registry.TagValidation{Timeout: &metav1.Duration{Duration: 20 * time.Second}},
		},
		Image:                 "example.com/registry-cache-server:v1",
		Credential:            &credentials.Named{Name: "robot-v1", Material: credentials.Static(credentials.Credential{Username: "robot$puller", Password: "example: \"#%*\n"})},
		PreviousCredential:    &credentials.Named{Name: "robot-v0", Material: credentials.Static(credentials.Credential{Username: "robot$puller", Password: "previous example"})},
		Certificate:           &cache.Certificate{Certificate: []byte("example certificate"), Key: []byte("example key")},
		KubernetesVersion:     semver.MustParse("1.36.3"),
		VerticalPodAutoscaler: true,
	}
}

func connected() cache.Values {
	values := plain()
	values.Cache.Upstream, values.Cache.RemoteURL = "registry.example.com", new("https://registry.example.com")
	values.Cache.CABundleSecretReferenceName, values.Cache.ClientCertificateSecretReferenceName = new("ca"), new("client")
	values.Cache.AllowedRealms = []string{"auth.example.org"}
	values.Cache.Timeouts = &registry.Timeouts{FirstByte: &metav1.Duration{Duration: 2 * time.Minute}}
	values.Cache.Proxy = &registry.Proxy{
		HTTPSProxy: new("http://proxy.example.com:3128"), NoProxy: []string{".example.org", "10.0.0.0/8"}, SecretReferenceName: new("proxy"),
	}
	values.Connection = cache.Connection{
		CABundle:          []byte("example CA"),
		ClientCertificate: &cache.Certificate{Certificate: []byte("example client certificate"), Key: []byte("example client key")},
		ProxyCredential:   &credentials.Credential{Username: "proxy user", Password: "example: proxy password"},
	}
	return values
}

func withPullSecrets() cache.Values {
	values := plain()
	values.Cache.HTTP = &registry.HTTP{TLS: new(true)}
	values.Certificate = &cache.Certificate{Certificate: []byte("example certificate"), Key: []byte("example key")}
	values.Cache.Access = &registry.Access{
		Mode: registry.AccessPullSecrets, GrantDuration: &metav1.Duration{Duration: 5 * time.Minute}, OutageGrantDuration: &metav1.Duration{Duration: 24 * time.Hour},
	}
	values.Cache.Accounts = []registry.Account{{Name: "builder", Namespaces: []string{"ci"}, Repositories: []string{"library"}}}
	values.Access = &cache.Access{DebugToken: "example token", ClientCAs: []byte("example CA")}
	return values
}

func forNodes() cache.Values {
	values := withPullSecrets()
	values.Cache.Access, values.Cache.Accounts = &registry.Access{Mode: registry.AccessNodes}, nil
	return values
}

func allObjects(values cache.Values) []client.Object {
	GinkgoHelper()
	objects, err := cache.Objects(values)
	Expect(err).NotTo(HaveOccurred())
	return append([]client.Object{cache.Service(values)}, objects...)
}

func statefulSet(values cache.Values) *appsv1.StatefulSet {
	GinkgoHelper()
	object, err := cache.StatefulSet(values)
	Expect(err).NotTo(HaveOccurred())
	return object
}

func configOf(values cache.Values) map[string][]byte {
	GinkgoHelper()
	secret, err := cache.ConfigSecret(values)
	Expect(err).NotTo(HaveOccurred())
	return secret.Data
}

func testScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	Expect(scheme.AddToScheme(s)).To(Succeed())
	Expect(vpaautoscalingv1.AddToScheme(s)).To(Succeed())
	return s
}

// render shows Secrets in plain text to keep golden files readable.
func render(objects []client.Object) []byte {
	GinkgoHelper()
	var out bytes.Buffer
	for _, object := range objects {
		gvk, err := apiutil.GVKForObject(object, testScheme())
		Expect(err).NotTo(HaveOccurred())
		object.GetObjectKind().SetGroupVersionKind(gvk)
		if secret, ok := object.(*corev1.Secret); ok {
			secret.StringData = map[string]string{}
			for key, value := range secret.Data {
				secret.StringData[key] = string(value)
			}
			secret.Data = nil
		}
		data, err := yaml.Marshal(object)
		Expect(err).NotTo(HaveOccurred())
		out.WriteString("---\n")
		out.Write(data)
	}
	return out.Bytes()
}
