// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/integration/admission/garden"
)

const (
	namespace       = "garden-dev"
	cachesPath      = "spec.extensions[0].providerConfig.caches"
	privateCache    = `{"upstream":"private.example.com","secretReferenceName":"robot"}`
	secretReference = cachesPath + "[0].secretReferenceName"
)

var _ = Describe("Shoot validation", func() {
	It("is registered for Shoots that use an extension, and fails closed", func() {
		webhook := registered("shoot")
		Expect(webhook.MatchConditions).To(ConsistOf(HaveField("Expression", And(
			ContainSubstring("extensions.extensions.gardener.cloud/registry-cache"), ContainSubstring("extensions.extensions.gardener.cloud/registry-mirror"),
		))))
		Expect(webhook.FailurePolicy).To(HaveValue(Equal(admissionregistrationv1.Fail)))
		Expect(webhook.Rules).To(ConsistOf(admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
			Rule: admissionregistrationv1.Rule{
				APIGroups: []string{"core.gardener.cloud"}, APIVersions: []string{"*"}, Resources: []string{"shoots"},
				Scope: new(admissionregistrationv1.AllScopes),
			},
		}))
	})

	Describe("creation", func() {
		It("accepts valid configurations", func() {
			Expect(create(newShoot(caches(`{"upstream":"docker.io"},`+privateCache), resource(newSecret())))).To(Succeed())
		})

		It("accepts configurations that Shoots use today", func() {
			Expect(create(newShoot(caches(`{"upstream":"private.example.com","remoteURL":"https://private.example.com/","secretReferenceName":"robot"}`),
				resource(newSecret(func(s *corev1.Secret) { s.Type = corev1.SecretTypeBasicAuth }))))).To(Succeed())
		})

		It("accepts Shoots without the extension, or with a disabled one", func() {
			Expect(create(newShoot(func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions = nil }))).To(Succeed())
			Expect(create(newShoot(caches(`{}`), disabled))).To(Succeed())
		})

		DescribeTable("rejects configurations:",
			func(change change, field, message string) {
				Expect(create(newShoot(change))).To(beDenied(field, message))
			},
			Entry("none", func(*gardencorev1beta1.Shoot) {}, "spec.extensions[0].providerConfig", "Required value"),
			Entry("an untyped one", rawConfig(`{"caches":[{"upstream":"docker.io"}]}`), "spec.extensions[0].providerConfig", "RegistryConfig"),
			Entry("no caches", caches(``), cachesPath, "Required value"),
			Entry("wrong URL", caches(`{"upstream":"docker.io"},{"upstream":"quay.io","remoteURL":"quay.io"}`), cachesPath+"[1].remoteURL", "must begin with https://"),
			Entry("unknown field", caches(`{"upstream":"docker.io","size":"1Gi"}`), cachesPath+"[0].size", "unknown field"),
			Entry("a pull secret of an anonymous cache", caches(`{"upstream":"docker.io","pullSecret":{"name":"pulls","namespaces":["a"]}}`), cachesPath+"[0].pullSecret", "set secretReferenceName or credentials"),
			Entry("an invalid selector of namespaces", caches(`{"upstream":"docker.io","pullSecret":{"name":"pulls","namespaceSelector":{"matchLabels":{"a":"-"}}}}`), cachesPath+"[0].pullSecret.namespaceSelector.matchLabels", "a valid label"),
			Entry("pull secrets over plain HTTP", caches(`{"upstream":"docker.io","http":{"tls":false},"access":{"mode":"PullSecrets"}}`), cachesPath+"[0].access.mode", "set http.tls to true"),
			Entry("nodes over plain HTTP", caches(`{"upstream":"docker.io","http":{"tls":false},"access":{"mode":"Nodes"}}`), cachesPath+"[0].access.mode", "set http.tls to true"),
			Entry("an unknown mode of access", caches(`{"upstream":"docker.io","access":{"mode":"Pods"}}`), cachesPath+"[0].access.mode", "Unsupported value"),
			Entry("grants in another mode", caches(`{"upstream":"docker.io","access":{"grantDuration":"1m"}}`), cachesPath+"[0].access.grantDuration", "only in access.mode PullSecrets"),
			Entry("accounts that open nothing", caches(`{"upstream":"docker.io","accounts":[{"name":"a","namespaces":["a"]}]}`), cachesPath+"[0].accounts", "set it to PullSecrets or Nodes"),
			Entry("an account without namespaces", caches(`{"upstream":"docker.io","access":{"mode":"Nodes"},"accounts":[{"name":"a"}]}`), cachesPath+"[0].accounts[0].namespaces", "at least one namespace"),
			Entry("names that collide", caches(`{"upstream":"r.io:5000"},{"upstream":"r.io-5000"}`), cachesPath+"[1].upstream", "registry-r-io-5000"),
			Entry("no entry in spec.resources", caches(privateCache), secretReference, "spec.resources"),
			Entry("a size that is slow to compare", caches(`{"upstream":"docker.io","volume":{"size":"1e999999999"}}`), cachesPath+"[0].volume.size", "without an exponent"),
			Entry("more caches than there can be", caches(strings.Repeat(`{"upstream":"docker.io"},`, 150)+`{"upstream":"docker.io"}`), cachesPath, "at most 150 items"),
			Entry("a field twice", rawConfig(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"docker.io","volume":{"size":"-5Gi"},"volume":{}}]}`),
				cachesPath+"[0].volume", "duplicate field"),
		)

		DescribeTable("rejects Secrets:",
			func(secret *corev1.Secret, message string) {
				Expect(create(newShoot(caches(privateCache), resource(secret)))).To(beDenied(secretReference, message))
			},
			Entry("mutable", newSecret(func(s *corev1.Secret) { s.Immutable = nil }), "immutable: true"),
			Entry("without data", newSecret(func(s *corev1.Secret) { s.Data = nil }), `the key "username"`),
			Entry("with an empty password", newSecret(func(s *corev1.Secret) { s.Data["password"] = nil }), "password must not be empty"),
			Entry("of another type", newSecret(func(s *corev1.Secret) { s.Type = "example.com/type" }), "must be of type Opaque"),
			Entry("with a line end in its password", newSecret(func(s *corev1.Secret) { s.Data["password"] = []byte("hunter2\n") }), "control characters"),
		)

		It("rejects a missing Secret and a reference to another kind", func() {
			// Gardener itself rejects the first one, so the webhook is also called directly.
			shoot := newShoot(caches(privateCache), reference("missing", "Secret"))
			Expect(create(shoot)).NotTo(Succeed())
			Expect(callWebhook(shoot, nil).Result.Message).To(And(ContainSubstring(secretReference), ContainSubstring("does not exist")))

			configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "map-"}}
			Expect(testClient.Create(ctx, configMap)).To(Succeed())
			Expect(create(newShoot(caches(privateCache), reference(configMap.Name, "ConfigMap")))).To(beDenied(secretReference, "must reference a Secret (v1) or a WorkloadIdentity (security.gardener.cloud/v1alpha1), but references a ConfigMap (v1)"))
		})

		It("reports all errors at once", func() {
			err := create(newShoot(caches(`{"upstream":"a","remoteURL":"x","secretReferenceName":"robot"},{"upstream":"b","serviceNameSuffix":"X"}`),
				resource(newSecret(func(s *corev1.Secret) { s.Immutable = nil }))))
			for _, field := range []string{"[0].remoteURL", "[0].secretReferenceName", "[1].serviceNameSuffix"} {
				Expect(err).To(beDenied(cachesPath+field, ""))
			}
		})

		It("is not throttled, regardless of the number of Secrets", func() {
			shootOf := func(secrets int) *gardencorev1beta1.Shoot {
				configs, changes := make([]string, secrets), make([]change, secrets)
				for i := range configs {
					configs[i] = fmt.Sprintf(`{"upstream":"host%d","secretReferenceName":"robot%d"}`, i, i)
					changes[i] = resource(newSecret(), fmt.Sprintf("robot%d", i))
				}
				return newShoot(append(changes, caches(strings.Join(configs, ",")))...)
			}
			// Gardener itself needs half a minute for such a Shoot, so the webhook is called directly.
			review := func(shoot *gardencorev1beta1.Shoot) time.Duration {
				start := time.Now()
				Expect(callWebhook(shoot, nil).Allowed).To(BeTrue())
				return time.Since(start)
			}
			// The default limits of client-go permit 30 requests at once and then 20 per second.
			few, many := shootOf(30), shootOf(150)
			longestOfFew, shortestOfMany := time.Duration(0), time.Duration(math.MaxInt64)
			for range 3 {
				longestOfFew = max(longestOfFew, review(few))
				shortestOfMany = min(shortestOfMany, review(many))
			}
			Expect(shortestOfMany).To(BeNumerically("<", 5*5*longestOfFew), "5 times as many take 5 times as long")
		})
	})

	Describe("update", func() {
		It("validates changes", func() {
			shoot := newShoot(caches(privateCache), resource(newSecret()))
			Expect(create(shoot)).To(Succeed())
			Expect(update(shoot, caches(privateCache+`,{"upstream":"https://docker.io"}`))).To(beDenied(cachesPath+"[1].upstream", "without a scheme"))
			Expect(update(shoot, caches(`{"upstream":"private.example.com","volume":{"size":"1Gi"}}`))).To(beDenied(cachesPath+"[0].volume.size", "cannot be decreased"))
			Expect(update(shoot, caches(privateCache+`,{"upstream":"docker.io"}`))).To(Succeed())
		})

		It("validates the new Secret of a rotation", func() {
			shoot := newShoot(caches(privateCache), resource(newSecret()))
			Expect(create(shoot)).To(Succeed())
			By("invalid Secrets")
			for message, change := range map[string]func(*corev1.Secret){
				"immutable: true":    func(s *corev1.Secret) { s.Immutable = new(false) },
				`the key "password"`: func(s *corev1.Secret) { s.Data = nil },
				"must not be empty":  func(s *corev1.Secret) { s.Data["password"] = nil },
				"colon":              func(s *corev1.Secret) { s.Data["username"] = []byte("jo:hn") },
				"must be of type":    func(s *corev1.Secret) { s.Type = "example.com/type" },
				"control characters": func(s *corev1.Secret) { s.Data["password"] = []byte("hunter2\n") },
				"remove the others":  func(s *corev1.Secret) { s.Data["config.json"] = []byte(`{}`) },
			} {
				Expect(update(shoot, resource(newSecret(change)))).To(beDenied(secretReference, message))
			}
			By("references to other objects")
			configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "map-"}}
			Expect(testClient.Create(ctx, configMap)).To(Succeed())
			Expect(update(shoot, reference(configMap.Name, "ConfigMap"))).To(beDenied(secretReference, "must reference a Secret (v1) or a WorkloadIdentity (security.gardener.cloud/v1alpha1), but references a ConfigMap (v1)"))
			// Gardener itself rejects a missing one, so the webhook is also called directly.
			missing := shoot.DeepCopy()
			reference("missing", "Secret")(missing)
			Expect(testClient.Update(ctx, missing.DeepCopy())).NotTo(Succeed())
			Expect(callWebhook(missing, shoot).Result.Message).To(And(ContainSubstring(secretReference), ContainSubstring("does not exist")))
			By("a valid Secret")
			Expect(update(shoot, resource(newSecret()))).To(Succeed())
		})

		It("rejects a Secret that is being deleted", func() {
			shoot := newShoot(caches(privateCache), resource(newSecret()))
			Expect(create(shoot)).To(Succeed())
			deleted := newSecret(func(s *corev1.Secret) { s.Finalizers = []string{"larder.test/keep"} })
			Expect(testClient.Create(ctx, deleted)).To(Succeed())
			Expect(testClient.Delete(ctx, deleted)).To(Succeed())
			Expect(update(shoot, reference(deleted.Name, "Secret"))).To(beDenied(secretReference, "is being deleted"))
			Expect(testClient.Patch(ctx, deleted, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
		})

		It("rejects the removal of the entry in spec.resources", func() {
			shoot := newShoot(caches(privateCache), resource(newSecret()))
			Expect(create(shoot)).To(Succeed())
			Expect(update(shoot, noResources)).To(beDenied(secretReference, "spec.resources"))
			Expect(update(shoot, caches(`{"upstream":"private.example.com"}`), noResources)).To(Succeed())
		})

		It("validates the extension when it is enabled, but not when it is disabled", func() {
			shoot := newShoot(caches(privateCache), resource(newSecret()))
			Expect(create(shoot)).To(Succeed())
			Expect(update(shoot, disabled, caches(`{}`), noResources)).To(Succeed())
			Expect(update(shoot, enabled)).To(beDenied(cachesPath+"[0].upstream", "Required value"))
			Expect(update(shoot, enabled, caches(privateCache))).To(beDenied(secretReference, "spec.resources"))
			Expect(update(shoot, enabled, caches(privateCache), resource(newSecret()))).To(Succeed())
		})

		It("accepts unrelated changes after a Secret has become invalid", func() {
			secret := newSecret()
			shoot := newShoot(caches(privateCache), resource(secret))
			Expect(create(shoot)).To(Succeed())
			replaceSecret(shoot, func(s *corev1.Secret) { s.Immutable, s.Data = nil, nil })

			for _, change := range []change{
				func(s *gardencorev1beta1.Shoot) { s.Labels["team"] = "a" },
				func(s *gardencorev1beta1.Shoot) { s.Spec.Purpose = new(gardencorev1beta1.ShootPurposeDevelopment) },
				func(s *gardencorev1beta1.Shoot) {
					s.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)}
				},
				func(s *gardencorev1beta1.Shoot) {
					s.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(false)}
				},
				func(s *gardencorev1beta1.Shoot) { s.Spec.Provider.Workers[0].Maximum = 2 },
			} {
				Expect(update(shoot, change)).To(Succeed())
			}
			Expect(update(shoot, caches(privateCache+`,{"upstream":"docker.io"}`))).To(Succeed())
			Expect(update(shoot, caches(privateCache+`,{"upstream":"docker.io","secretReferenceName":"robot"}`))).To(beDenied(cachesPath+"[1].secretReferenceName", "immutable: true"))
			Expect(update(shoot, resource(newSecret()))).To(Succeed())
		})

		It("does not validate unchanged configurations", func() {
			// Only an older version of the component lets such a configuration pass.
			for _, size := range []string{`1e999999999`, `"1e-9000000"`, `"10e9"`} {
				before := newShoot(caches(`{"upstream":"docker.io","volume":{"size":` + size + `}}`))
				after := before.DeepCopy()
				after.Spec.Purpose = new(gardencorev1beta1.ShootPurposeTesting)
				Expect(callWebhook(after, before).Allowed).To(BeTrue())
				caches(`{"upstream":"docker.io","volume":{"size":"10Gi"}}`)(after)
				Expect(callWebhook(after, before).Allowed).To(BeTrue())
			}
		})

		It("does not block a Shoot in deletion", func() {
			shoot := newShoot(caches(privateCache), resource(newSecret()), func(s *gardencorev1beta1.Shoot) {
				s.Annotations = map[string]string{"confirmation.gardener.cloud/deletion": "true"}
			})
			Expect(create(shoot)).To(Succeed())
			Expect(update(shoot, func(s *gardencorev1beta1.Shoot) { s.Finalizers = []string{"gardener"} })).To(Succeed())
			replaceSecret(shoot, func(s *corev1.Secret) { s.Data = nil })
			Expect(testClient.Delete(ctx, shoot)).To(Succeed())
			Expect(testClient.Get(ctx, client.ObjectKeyFromObject(shoot), shoot)).To(Succeed())
			Expect(shoot.DeletionTimestamp).NotTo(BeNil())
			Expect(update(shoot, func(s *gardencorev1beta1.Shoot) { s.Finalizers = nil })).To(Succeed())
		})
	})
})

// beDenied matches a rejection of a field by the webhook.
func beDenied(field, message string) gomegatypes.GomegaMatcher {
	return And(
		MatchError(ContainSubstring(`admission webhook "shoot.registry-cache-admission.extensions.gardener.cloud" denied the request`)),
		Satisfy(apierrors.IsInvalid),
		MatchError(And(ContainSubstring(field+": "), ContainSubstring(message))),
		MatchError(Not(ContainSubstring("hunter2"))),
	)
}

type change = func(*gardencorev1beta1.Shoot)

// newShoot returns a Shoot that uses the extension.
func newShoot(changes ...change) *gardencorev1beta1.Shoot {
	shoot := garden.NewShoot(namespace)
	for _, change := range changes {
		change(shoot)
	}
	return shoot
}

// caches sets the caches, given as JSON objects.
func caches(text string) change {
	return rawConfig(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` + text + `]}`)
}

func rawConfig(text string) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		shoot.Spec.Extensions[0].ProviderConfig = &runtime.RawExtension{Raw: []byte(text)}
	}
}

func disabled(shoot *gardencorev1beta1.Shoot)    { shoot.Spec.Extensions[0].Disabled = new(true) }
func enabled(shoot *gardencorev1beta1.Shoot)     { shoot.Spec.Extensions[0].Disabled = nil }
func noResources(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources = nil }

// resource creates the Secret and references it in spec.resources, as "robot" or under the given name.
func resource(secret *corev1.Secret, name ...string) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		GinkgoHelper()
		Expect(testClient.Create(ctx, secret)).To(Succeed())
		reference(secret.Name, "Secret", name...)(shoot)
	}
}

// reference sets an entry of spec.resources, "robot" or the one with the given name.
func reference(target, kind string, name ...string) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		entry := gardencorev1beta1.NamedResourceReference{
			Name:        append(name, "robot")[0],
			ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: kind, Name: target},
		}
		for i := range shoot.Spec.Resources {
			if shoot.Spec.Resources[i].Name == entry.Name {
				shoot.Spec.Resources[i] = entry
				return
			}
		}
		shoot.Spec.Resources = append(shoot.Spec.Resources, entry)
	}
}

// newSecret returns valid credentials with changes.
func newSecret(changes ...func(*corev1.Secret)) *corev1.Secret {
	secret := garden.NewSecret(namespace)
	for _, change := range changes {
		change(secret)
	}
	return secret
}

// replaceSecret replaces the Secret that the Shoot references, as a client that can take the namespace from its project.
func replaceSecret(shoot *gardencorev1beta1.Shoot, change func(*corev1.Secret)) {
	GinkgoHelper()
	name := shoot.Spec.Resources[0].ResourceRef.Name
	labelNamespace("")
	defer labelNamespace("project")
	// kube-apiserver notices the label with a delay.
	Eventually(func() error {
		return testClient.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	}).Should(Succeed())
	Expect(testClient.Create(ctx, newSecret(func(s *corev1.Secret) { s.Name = name }, change))).To(Succeed())
}

// labelNamespace sets the role of the namespace in the garden.
func labelNamespace(role string) {
	GinkgoHelper()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"gardener.cloud/role":%q}}}`, role))
	Expect(testClient.Patch(ctx, object, patch)).To(Succeed())
}

func create(shoot *gardencorev1beta1.Shoot) error {
	return testClient.Create(ctx, shoot)
}

// update patches a Shoot, because Gardener may change it concurrently. The Shoot is unchanged after an error.
func update(shoot *gardencorev1beta1.Shoot, changes ...change) error {
	updated := shoot.DeepCopy()
	for _, change := range changes {
		change(updated)
	}
	err := testClient.Patch(ctx, updated, client.MergeFrom(shoot))
	if err == nil {
		*shoot = *updated
	}
	return err
}

// callWebhook sends a review of the creation of a Shoot, or of the update of an old one, like an API server that uses
// the webhook configuration.
func callWebhook(shoot, oldShoot *gardencorev1beta1.Shoot) *admissionv1.AdmissionResponse {
	GinkgoHelper()
	encode := func(shoot *gardencorev1beta1.Shoot) runtime.RawExtension {
		shoot.TypeMeta = metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"}
		object, err := json.Marshal(shoot)
		Expect(err).NotTo(HaveOccurred())
		return runtime.RawExtension{Raw: object}
	}
	request := &admissionv1.AdmissionRequest{UID: "1", Operation: admissionv1.Create, Object: encode(shoot)}
	if oldShoot != nil {
		request.Operation, request.OldObject = admissionv1.Update, encode(oldShoot)
	}
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request:  request,
	})
	Expect(err).NotTo(HaveOccurred())

	config := registered("shoot").ClientConfig
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(config.CABundle)).To(BeTrue())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	response, err := client.Post(*config.URL, "application/json", bytes.NewReader(review))
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(response.Body.Close()).To(Succeed()) }()
	reviewed := &admissionv1.AdmissionReview{}
	Expect(json.NewDecoder(response.Body).Decode(reviewed)).To(Succeed())
	return reviewed.Response
}

// registered returns one of the two registered webhooks.
func registered(name string) admissionregistrationv1.ValidatingWebhook {
	GinkgoHelper()
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	Expect(testClient.Get(ctx, client.ObjectKey{Name: "gardener-extension-registry-cache-admission"}, config)).To(Succeed())
	Expect(config.Webhooks).To(HaveLen(3))
	i := slices.IndexFunc(config.Webhooks, func(w admissionregistrationv1.ValidatingWebhook) bool {
		return w.Name == name+".registry-cache-admission.extensions.gardener.cloud"
	})
	Expect(i).To(BeNumerically(">=", 0))
	return config.Webhooks[i]
}
