// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admission/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/admission/shoot"
)

const (
	namespace  = "garden-dev"
	configPath = "spec.extensions[0].providerConfig"
)

var _ = Describe("Handler", func() {
	var (
		handler    *shoot.Handler
		reads      map[string]int
		readErr    error
		beforeRead func()
	)

	BeforeEach(func() {
		scheme := runtime.NewScheme()
		Expect(corev1.AddToScheme(scheme)).To(Succeed())
		Expect(gardencorev1beta1.AddToScheme(scheme)).To(Succeed())
		Expect(securityv1alpha1.AddToScheme(scheme)).To(Succeed())
		reads, readErr, beforeRead = map[string]int{}, nil, nil
		var lock sync.Mutex
		reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
			newIdentity("aws", `{"roleARN":"arn:aws:iam::123456789012:role/puller"}`),
			newIdentity("azure", `{}`),
			newSecret("v1"),
			newSecret("v2"),
			newSecret("mutable", func(s *corev1.Secret) { s.Immutable = nil }),
			newSecret("empty", func(s *corev1.Secret) { s.Data = nil }),
			newSecret("bad", func(s *corev1.Secret) { s.Data["username"] = []byte("jo:hn") }),
			newSecret("basic-auth", func(s *corev1.Secret) { s.Type = corev1.SecretTypeBasicAuth }),
			newSecret("line-end", func(s *corev1.Secret) { s.Data["password"] = []byte("hunter2\n") }),
			newSecret("foreign", func(s *corev1.Secret) { s.Data["api-token"] = nil }),
			newSecret("deleted", func(s *corev1.Secret) {
				s.DeletionTimestamp, s.Finalizers = new(metav1.Now()), []string{"gardener.cloud/reference-protection"}
			}),
		).WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				if beforeRead != nil {
					beforeRead()
				}
				lock.Lock()
				defer lock.Unlock()
				reads[key.Name]++
				if readErr != nil {
					return readErr
				}
				return c.Get(ctx, key, object, options...)
			},
		}).Build()
		var err error
		handler, err = shoot.NewHandler(admission.NewDecoder(scheme), reader)
		Expect(err).NotTo(HaveOccurred())
	})

	create := func(shoot *gardencorev1beta1.Shoot) []string {
		GinkgoHelper()
		return causes(handler.Handle(context.Background(), review(shoot, nil)))
	}
	update := func(oldShoot, shoot *gardencorev1beta1.Shoot) []string {
		GinkgoHelper()
		return causes(handler.Handle(context.Background(), review(shoot, oldShoot)))
	}

	Describe("creation", func() {
		It("accepts a valid configuration", func() {
			Expect(create(newShoot(config(`{"upstream":"docker.io"},{"upstream":"quay.io","secretReferenceName":"robot"}`), resource("robot", "v1")))).To(BeEmpty())
		})

		It("ignores Shoots without the extension", func() {
			Expect(create(newShoot(func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions = nil }))).To(BeEmpty())
			Expect(create(newShoot(rawConfig(`[]`), func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions[0].Type = "other" }))).To(BeEmpty())
			Expect(create(newShoot(rawConfig(`"garbage"`), disabled))).To(BeEmpty())
		})

		It("requires a configuration", func() {
			Expect(create(newShoot())).To(ConsistOf(configPath + ": Required value: the extension needs a RegistryConfig with at least one cache"))
		})

		It("reports the path of the extension's entry", func() {
			shoot := newShoot(config(`{"upstream":"docker.io"},{"upstream":"quay.io","remoteURL":"quay.io"}`))
			shoot.Spec.Extensions = slices.Insert(shoot.Spec.Extensions, 0, gardencorev1beta1.Extension{Type: "other"})
			Expect(create(shoot)).To(ConsistOf(HavePrefix("spec.extensions[1].providerConfig.caches[1].remoteURL: Invalid value")))
		})

		DescribeTable("refuses configurations that cannot be decoded",
			func(raw, expected string) {
				Expect(create(newShoot(rawConfig(raw)))).To(ConsistOf(HavePrefix(expected)))
			},
			Entry("no type", `{"caches":[{"upstream":"docker.io"}]}`, configPath+": Invalid value: cannot be decoded as a RegistryConfig"),
			Entry("Go's field names", `{"Caches":[{"Upstream":"docker.io"}]}`, configPath+": Invalid value: cannot be decoded as a RegistryConfig"),
			Entry("internal version", `{"apiVersion":"registry.extensions.gardener.cloud/__internal","kind":"RegistryConfig","Caches":[{"Upstream":"docker.io"}]}`, configPath+": Invalid value: cannot be decoded as a RegistryConfig"),
			Entry("status", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryStatus"}`, configPath+": Invalid value: cannot be decoded as a RegistryConfig"),
			Entry("wrong type of a field", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":{}}`, configPath+": Invalid value: cannot be decoded as a RegistryConfig"),
			Entry("unknown field", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"docker.io","x":{}}]}`, configPath+".caches[0].x: Forbidden: unknown field"),
			Entry("duplicate field", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"docker.io","volume":{"size":"5Gi"},"volume":{"size":"6Gi"}}]}`,
				configPath+".caches[0].volume: Forbidden: duplicate field"),
			Entry("hostile size", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"docker.io","volume":{"size":1e999999999}}]}`,
				configPath+".caches[0].volume.size: Invalid value: \"1e999999999\": must be a number without an exponent"),
			Entry("too large", `{"x":"`+strings.Repeat("x", 300_000)+`"}`, configPath+": Invalid value: the configuration must have at most 262144 bytes"),
		)

		It("checks the number of caches first", func() {
			caches := make([]string, 151)
			for i := range caches {
				caches[i] = fmt.Sprintf(`{"upstream":"host%d","remoteURL":"x","secretReferenceName":"robot"}`, i)
			}
			Expect(create(newShoot(config(strings.Join(caches, ",")), resource("robot", "v1")))).To(ConsistOf(configPath + ".caches: Too many: 151: must have at most 150 items"))
			Expect(reads).To(BeEmpty())
		})

		It("limits the length of its responses", func() {
			bad := strings.Repeat("x", 300)
			caches := make([]string, 100)
			for i := range caches {
				caches[i] = fmt.Sprintf(`{"upstream":"%s%d","remoteURL":"%s","serviceNameSuffix":"%s","%s%d":1}`, bad, i, bad, bad, bad[:100], i)
			}
			response := handler.Handle(context.Background(), review(newShoot(config(strings.Join(caches, ","))), nil))
			Expect(causes(response)).To(And(HaveLen(21), HaveEach(WithTransform(func(s string) int { return len(s) }, BeNumerically("<", 2048)))))
			Expect(causes(response)).To(ContainElement("spec: Invalid value: and 479 more errors"))
			Expect(len(response.Result.Message)).To(BeNumerically("<", 32<<10))
		})

		It("stops when the request is cancelled", func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			response := handler.Handle(ctx, review(newShoot(config(`{"upstream":"quay.io","secretReferenceName":"robot"}`), resource("robot", "v1")), nil))
			Expect(response.Allowed).To(BeFalse())
			Expect(response.Result.Code).To(BeEquivalentTo(http.StatusServiceUnavailable))
			Expect(reads).To(BeEmpty())
		})

		It("accepts the configurations of existing Shoots", func() {
			Expect(create(newShoot(config(`{"upstream":"quay.io","remoteURL":"https://quay.io/","secretReferenceName":"robot"},`+
				`{"upstream":"a.io","serviceNameSuffix":"b-io"},{"upstream":"b.io","serviceNameSuffix":"a-io"}`), resource("robot", "basic-auth")))).To(BeEmpty())
		})

		It("accepts a workload identity of the upstream's cloud, which it reads once", func() {
			Expect(create(newShoot(config(`{"upstream":"`+ecr+`","secretReferenceName":"puller"},{"upstream":"public.ecr.aws","secretReferenceName":"puller"}`),
				resource("puller", "aws", identity)))).To(BeEmpty())
			Expect(reads).To(Equal(map[string]int{"aws": 1}))
		})

		DescribeTable("refuses workload identities",
			func(upstream, name, expected string) {
				Expect(create(newShoot(config(`{"upstream":"`+upstream+`","secretReferenceName":"puller"}`), resource("puller", name, identity)))).To(
					ConsistOf(And(HavePrefix(configPath+".caches[0].secretReferenceName: Invalid value: \"garden-dev/"+name+`"`), ContainSubstring(expected))))
			},
			Entry("that do not exist", ecr, "missing", "does not exist; create it first"),
			Entry("for other registries", "ghcr.io", "aws", "reference a Secret"),
			Entry("of another cloud", "contoso.azurecr.io", "aws", `must have spec.targetSystem.type "azure"`),
			Entry("with an invalid configuration", "contoso.azurecr.io", "azure", "clientID must be a UUID"),
		)

		It("reports all errors at once", func() {
			Expect(create(newShoot(
				config(`{"upstream":"docker.io","secretReferenceName":"missing"},{"upstream":"quay.io","remoteURL":"x","secretReferenceName":"gone","x":1},`+
					`{"upstream":"a","secretReferenceName":"bad"},{"upstream":"b","secretReferenceName":"map"},{"upstream":"c","secretReferenceName":"old"}`),
				resource("gone", "gone"), resource("bad", "bad"),
				resource("map", "v1", func(r *autoscalingv1.CrossVersionObjectReference) { r.Kind = "ConfigMap" }),
				resource("old", "v1", func(r *autoscalingv1.CrossVersionObjectReference) { r.APIVersion = "v1beta1" }),
				runtimes("containerd", "docker"),
			))).To(ConsistOf(
				And(HavePrefix(configPath+`.caches[0].secretReferenceName: Invalid value: "missing"`), ContainSubstring("spec.resources")),
				And(HavePrefix(configPath+`.caches[1].secretReferenceName: Invalid value: "garden-dev/gone"`), ContainSubstring("does not exist")),
				HavePrefix(configPath+`.caches[1].remoteURL: Invalid value: "x"`),
				HavePrefix(configPath+`.caches[1].x: Forbidden: unknown field`),
				And(HavePrefix(configPath+`.caches[2].secretReferenceName: Invalid value: "garden-dev/bad"`), ContainSubstring("colon")),
				And(HavePrefix(configPath+`.caches[3].secretReferenceName: Invalid value: "map"`), ContainSubstring("a ConfigMap (v1)")),
				And(HavePrefix(configPath+`.caches[4].secretReferenceName: Invalid value: "old"`), ContainSubstring("a Secret (v1beta1)")),
				HavePrefix(`spec.provider.workers[1].cri.name: Unsupported value: "docker"`),
			))
		})

		DescribeTable("refuses Secrets",
			func(name, expected string) {
				Expect(create(newShoot(config(`{"upstream":"quay.io","secretReferenceName":"robot"}`), resource("robot", name)))).
					To(ContainElement(And(HavePrefix(configPath+".caches[0].secretReferenceName: Invalid value: "), ContainSubstring(expected))))
			},
			Entry("missing", "gone", "does not exist"),
			Entry("mutable", "mutable", "immutable: true"),
			Entry("empty", "empty", `the key "username"`),
			Entry("bad", "bad", "colon"),
			Entry("in deletion", "deleted", "is being deleted"),
			Entry("a password with a line break", "line-end", "control characters"),
			Entry("more keys", "foreign", "remove the others"),
		)

		It("reads each Secret once, and only Secrets", func() {
			caches := make([]string, 70)
			for i := range caches {
				caches[i] = fmt.Sprintf(`{"upstream":"host%d","secretReferenceName":"robot%d"}`, i, i%2)
			}
			Expect(create(newShoot(config(strings.Join(caches, ",")), resource("robot0", "v1"), resource("robot1", "v1"), resource("unused", "v2")))).To(BeEmpty())
			Expect(reads).To(Equal(map[string]int{"v1": 1}))
		})

		It("limits the Secrets that all reviews together read at the same time", func() {
			caches, changes := make([]string, 30), make([]change, 30)
			for i := range caches {
				caches[i] = fmt.Sprintf(`{"upstream":"host%d","secretReferenceName":"robot%d"}`, i, i)
				changes[i] = resource(fmt.Sprintf("robot%d", i), fmt.Sprintf("secret%d", i))
			}
			request := review(newShoot(append(changes, config(strings.Join(caches, ",")))...), nil)

			release := make(chan struct{})
			var lock sync.Mutex
			reading, most := 0, 0
			beforeRead = func() {
				lock.Lock()
				reading++
				most = max(most, reading)
				lock.Unlock()
				<-release
				lock.Lock()
				reading--
				lock.Unlock()
			}
			var reviews sync.WaitGroup
			for range 4 {
				reviews.Go(func() { handler.Handle(context.Background(), request) })
			}
			Eventually(func() int { lock.Lock(); defer lock.Unlock(); return reading }).Should(Equal(10))
			close(release)
			reviews.Wait()
			Expect(most).To(Equal(10))
		})

		It("returns an error if it cannot read a Secret", func() {
			readErr = errors.New("the network is down")
			response := handler.Handle(context.Background(), review(newShoot(config(`{"upstream":"quay.io","secretReferenceName":"robot"}`), resource("robot", "v1")), nil))
			Expect(response.Allowed).To(BeFalse())
			Expect(response.Result.Code).To(BeEquivalentTo(http.StatusInternalServerError))
			Expect(response.Result.Message).To(And(ContainSubstring("garden-dev/v1"), ContainSubstring("the network is down")))
		})

		It("treats an unset container runtime as containerd", func() {
			Expect(create(newShoot(config(`{"upstream":"docker.io"}`), runtimes("", "containerd")))).To(BeEmpty())
			shoot := newShoot(config(`{"upstream":"docker.io"}`))
			shoot.Spec.Provider.Workers[0].CRI = nil
			Expect(create(shoot)).To(BeEmpty())
		})

		It("requires workers", func() {
			Expect(create(newShoot(config(`{"upstream":"docker.io"}`), runtimes()))).To(ConsistOf(HavePrefix("spec.extensions[0]: Forbidden: caches run on worker nodes")))
		})

		It("responds like an API server", func() {
			response := handler.Handle(context.Background(), review(newShoot(config(`{"upstream":"a/b"}`)), nil))
			Expect(response.Allowed).To(BeFalse())
			Expect(response.Result.Code).To(BeEquivalentTo(http.StatusUnprocessableEntity))
			Expect(response.Result.Reason).To(Equal(metav1.StatusReasonInvalid))
			Expect(response.Result.Message).To(And(HavePrefix(`Shoot.core.gardener.cloud "example" is invalid`), ContainSubstring(configPath+".caches[0].upstream")))
			Expect(response.Result.Details.Causes).To(HaveLen(1))
		})

		It("refuses objects that are not Shoots", func() {
			request := review(newShoot(), nil)
			request.Object.Raw = []byte(`{"apiVersion":"v1","kind":"Secret","data":{"password":"aHVudGVyMg=="}}`)
			response := handler.Handle(context.Background(), request)
			Expect(response.Allowed).To(BeFalse())
			Expect(response.Result.Code).To(BeEquivalentTo(http.StatusBadRequest))
			Expect(response.Result.Message).NotTo(ContainSubstring("aHVudGVyMg"))
		})
	})

	Describe("update", func() {
		private := config(`{"upstream":"quay.io","secretReferenceName":"robot"}`)
		wrong := config(`{"upstream":"https://quay.io","remoteURL":"x"}`)

		It("validates a changed configuration", func() {
			Expect(update(newShoot(config(`{"upstream":"docker.io"}`)), newShoot(config(`{"upstream":"docker.io","remoteURL":"x"}`)))).
				To(ConsistOf(HavePrefix(configPath + ".caches[0].remoteURL")))
			Expect(update(newShoot(config(`{"upstream":"docker.io"}`)), newShoot(config(`{"upstream":"docker.io","volume":{"size":"1Gi"}}`)))).
				To(ConsistOf(HavePrefix(configPath + ".caches[0].volume.size: Forbidden")))
			Expect(update(newShoot(config(`{"upstream":"docker.io"}`)), newShoot())).
				To(ConsistOf(HavePrefix(configPath + ": Required value")))
		})

		It("compares configurations with their defaults", func() {
			Expect(update(newShoot(config(`{"upstream":"docker.io"}`)), newShoot(config(`{"upstream":"docker.io","volume":{"size":"10Gi"}}`)))).To(BeEmpty())
		})

		It("validates an added or enabled extension like a new one", func() {
			shrunk := config(`{"upstream":"docker.io","volume":{"size":"1Gi"}}`)
			Expect(update(newShoot(wrong, disabled), newShoot(wrong))).NotTo(BeEmpty())
			Expect(update(newShoot(func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions = nil }), newShoot(wrong))).NotTo(BeEmpty())
			Expect(update(newShoot(private, resource("robot", "bad"), disabled), newShoot(private, resource("robot", "bad")))).NotTo(BeEmpty())
			Expect(update(newShoot(config(`{"upstream":"docker.io"}`), disabled), newShoot(shrunk))).To(BeEmpty())
			Expect(update(newShoot(runtimes("docker"), config(`{"upstream":"docker.io"}`), disabled), newShoot(runtimes("docker"), config(`{"upstream":"docker.io"}`)))).NotTo(BeEmpty())
		})

		It("allows disabling and removing the extension", func() {
			Expect(update(newShoot(wrong), newShoot(wrong, disabled))).To(BeEmpty())
			Expect(update(newShoot(private, resource("robot", "v1")), newShoot(private, disabled))).To(BeEmpty())
			Expect(update(newShoot(wrong), newShoot(func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions = nil }))).To(BeEmpty())
		})

		It("validates the Secret when only spec.resources changes", func() {
			Expect(update(newShoot(private, resource("robot", "v1")), newShoot(private, resource("robot", "v2")))).To(BeEmpty())
			Expect(reads).To(Equal(map[string]int{"v2": 1}))
			Expect(update(newShoot(private, resource("robot", "v1")), newShoot(private, resource("robot", "bad")))).
				To(ConsistOf(HavePrefix(configPath + ".caches[0].secretReferenceName")))
			Expect(update(newShoot(private, resource("robot", "v1")), newShoot(private))).
				To(ConsistOf(And(HavePrefix(configPath+".caches[0].secretReferenceName"), ContainSubstring("spec.resources"))))
			Expect(update(newShoot(private, resource("robot", "v1")), newShoot(private, resource("other", "v1")))).NotTo(BeEmpty())
		})

		It("validates the Secret of a configuration that current rules would refuse", func() {
			old := rawConfig(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","x":1,"caches":[{"upstream":"quay.io","remoteURL":"x","secretReferenceName":"robot"}]}`)
			Expect(update(newShoot(old, resource("robot", "v1")), newShoot(old, resource("robot", "v2")))).To(BeEmpty())
			Expect(update(newShoot(old, resource("robot", "v1")), newShoot(old, resource("robot", "bad")))).
				To(ConsistOf(HavePrefix(configPath + ".caches[0].secretReferenceName")))
		})

		It("validates the Secret of a cache that starts to use it", func() {
			Expect(update(newShoot(private, resource("robot", "bad")),
				newShoot(config(`{"upstream":"quay.io","secretReferenceName":"robot"},{"upstream":"docker.io","secretReferenceName":"robot"}`), resource("robot", "bad")))).
				To(ConsistOf(HavePrefix(configPath + ".caches[1].secretReferenceName")))
		})

		It("does not validate the Secret of a renamed entry again", func() {
			Expect(update(newShoot(private, resource("robot", "bad")), newShoot(config(`{"upstream":"quay.io","secretReferenceName":"android"}`), resource("android", "bad")))).To(BeEmpty())
			Expect(reads).To(BeEmpty())
		})

		DescribeTable("does not validate what did not change",
			func(changes ...change) {
				changed := append(slices.Clone(changes), func(s *gardencorev1beta1.Shoot) {
					s.Labels = map[string]string{"a": "b"}
					s.Spec.Purpose = new(gardencorev1beta1.ShootPurposeTesting)
				})
				Expect(update(newShoot(changes...), newShoot(changed...))).To(BeEmpty())
				Expect(reads).To(BeEmpty())
			},
			Entry("nothing wrong", private, resource("robot", "v1")),
			Entry("no configuration"),
			Entry("wrong fields", wrong),
			Entry("configuration that cannot be decoded", rawConfig(`{"caches":"x"}`)),
			Entry("unknown field", rawConfig(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","x":1,"caches":[{"upstream":"docker.io"}]}`)),
			Entry("bad Secret", private, resource("robot", "bad")),
			Entry("missing Secret", private, resource("robot", "gone")),
			Entry("Secret in deletion", private, resource("robot", "deleted")),
			Entry("missing entry", private),
			Entry("wrong kind", private, resource("robot", "v1", func(r *autoscalingv1.CrossVersionObjectReference) { r.Kind = "ConfigMap" })),
			Entry("container runtime", config(`{"upstream":"docker.io"}`), runtimes("docker")),
			Entry("no workers", config(`{"upstream":"docker.io"}`), runtimes()),
			Entry("a line break in a password", private, resource("robot", "line-end")),
			Entry("a size with an exponent", config(`{"upstream":"docker.io","volume":{"size":"10e9"}}`)),
			Entry("a size beyond the maximum", config(`{"upstream":"docker.io","volume":{"size":"5Ei"}}`)),
			Entry("a hostile size", config(`{"upstream":"docker.io","volume":{"size":1e999999999}}`)),
			Entry("a tiny size", config(`{"upstream":"docker.io","volume":{"size":"1e-9000000"}}`)),
			Entry("a duplicate field", config(`{"upstream":"docker.io","volume":{"size":"-5Gi"},"volume":{}}`)),
			Entry("an IPv6 address", config(`{"upstream":"docker.io","remoteURL":"https://[2001:DB8::1]"}`)),
			Entry("too many caches", config(strings.Repeat(`{"upstream":"docker.io"},`, 500)+`{"upstream":"docker.io"}`)),
			Entry("a configuration beyond the size limit", rawConfig(`{"x":"`+strings.Repeat("x", 300_000)+`"}`)),
		)

		It("accepts a change next to a size that current rules would refuse", func() {
			Expect(update(newShoot(config(`{"upstream":"docker.io","volume":{"size":"10e9"}}`)), newShoot(config(`{"upstream":"docker.io","volume":{"size":"10e9"},"http":{"tls":false}}`)))).To(BeEmpty())
		})

		It("accepts the repair of a hostile size", func() {
			for _, size := range []string{`1e999999999`, `"1e-9000000"`} {
				hostile := config(`{"upstream":"docker.io","volume":{"size":` + size + `}}`)
				Expect(update(newShoot(hostile), newShoot(config(`{"upstream":"docker.io"}`)))).To(BeEmpty())
				Expect(update(newShoot(config(`{"upstream":"docker.io"}`)), newShoot(hostile))).To(ConsistOf(HavePrefix(configPath + ".caches[0].volume.size")))
			}
		})

		DescribeTable("treats an added duplicate field as a change",
			func(after, expected string) {
				before := `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"docker.io","volume":{"storageClassName":"x"}}]}`
				Expect(update(newShoot(rawConfig(before)), newShoot(rawConfig(after)))).To(ContainElement(HavePrefix(configPath + expected)))
			},
			Entry("that decoders would merge", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"docker.io",`+
				`"volume":{"size":"-5Gi"},"volume":{"storageClassName":"x"}}]}`, ".caches[0].volume: Forbidden: duplicate field"),
			Entry("in another case", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"docker.io",`+
				`"Volume":{"size":"-5Gi"},"volume":{"storageClassName":"x"}}]}`, ".caches[0].Volume: Forbidden: unknown field"),
			Entry("at the top level", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"a"},{"upstream":"b"}],`+
				`"caches":[{"upstream":"docker.io","volume":{"storageClassName":"x"}}]}`, ".caches: Forbidden: duplicate field"),
		)

		It("ignores changes of the formatting", func() {
			Expect(update(newShoot(rawConfig(`{"x":{"a":1,"b":[]}}`)), newShoot(rawConfig(` {"x": {"b": [], "a": 1.0}} `)))).To(BeEmpty())
		})

		It("accepts repairs", func() {
			Expect(update(newShoot(wrong), newShoot(private, resource("robot", "v1")))).To(BeEmpty())
			Expect(update(newShoot(), newShoot(private, resource("robot", "v1")))).To(BeEmpty())
			Expect(update(newShoot(private, resource("robot", "bad")), newShoot(private, resource("robot", "v1")))).To(BeEmpty())
			Expect(update(newShoot(rawConfig(`{"caches":"x"}`)), newShoot(private, resource("robot", "v1")))).To(BeEmpty())
		})

		It("validates added and changed workers", func() {
			cached := config(`{"upstream":"docker.io"}`)
			Expect(update(newShoot(cached, runtimes("docker")), newShoot(cached, runtimes("docker", "docker")))).To(ConsistOf(HavePrefix("spec.provider.workers[1].cri.name")))
			Expect(update(newShoot(cached, runtimes("containerd")), newShoot(cached, runtimes("docker")))).To(ConsistOf(HavePrefix("spec.provider.workers[0].cri.name")))
			Expect(update(newShoot(cached, runtimes("docker")), newShoot(cached, runtimes("containerd")))).To(BeEmpty())
		})

		It("never blocks a Shoot in deletion", func() {
			deleted := func(s *gardencorev1beta1.Shoot) {
				s.DeletionTimestamp, s.Finalizers = new(metav1.Now()), []string{"gardener"}
			}
			Expect(update(newShoot(private, resource("robot", "v1"), deleted), newShoot(wrong, deleted))).To(BeEmpty())
			Expect(reads).To(BeEmpty())
		})
	})
})

type change = func(*gardencorev1beta1.Shoot)

// newShoot returns a Shoot that uses the extension.
func newShoot(changes ...change) *gardencorev1beta1.Shoot {
	shoot := &gardencorev1beta1.Shoot{
		TypeMeta:   metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "example"},
		Spec: gardencorev1beta1.ShootSpec{
			Extensions: []gardencorev1beta1.Extension{{Type: "registry-cache"}},
		},
	}
	runtimes("containerd")(shoot)
	for _, change := range changes {
		change(shoot)
	}
	return shoot
}

// config sets the caches, given as JSON objects.
func config(caches string) change {
	return rawConfig(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` + caches + `]}`)
}

func rawConfig(text string) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		shoot.Spec.Extensions[0].ProviderConfig = &runtime.RawExtension{Raw: []byte(text)}
	}
}

func disabled(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Extensions[0].Disabled = new(true) }

// resource adds an entry to spec.resources that references a Secret.
func resource(name, secret string, changes ...func(*autoscalingv1.CrossVersionObjectReference)) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		entry := gardencorev1beta1.NamedResourceReference{
			Name:        name,
			ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: secret},
		}
		for _, change := range changes {
			change(&entry.ResourceRef)
		}
		shoot.Spec.Resources = append(shoot.Spec.Resources, entry)
	}
}

// runtimes sets worker pools with the given container runtimes.
func runtimes(names ...gardencorev1beta1.CRIName) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		shoot.Spec.Provider.Workers = nil
		for i, name := range names {
			shoot.Spec.Provider.Workers = append(shoot.Spec.Provider.Workers, gardencorev1beta1.Worker{
				Name: fmt.Sprintf("pool%d", i), CRI: &gardencorev1beta1.CRI{Name: name},
			})
		}
	}
}

func newSecret(name string, changes ...func(*corev1.Secret)) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Type:       corev1.SecretTypeOpaque,
		Immutable:  new(true),
		Data:       maps.Clone(map[string][]byte{"username": []byte("john"), "password": []byte("hunter2")}),
	}
	for _, change := range changes {
		change(secret)
	}
	return secret
}

func review(shoot, oldShoot *gardencorev1beta1.Shoot) admission.Request {
	GinkgoHelper()
	encode := func(shoot *gardencorev1beta1.Shoot) runtime.RawExtension {
		if shoot == nil {
			return runtime.RawExtension{}
		}
		data, err := json.Marshal(shoot)
		Expect(err).NotTo(HaveOccurred())
		return runtime.RawExtension{Raw: data}
	}
	operation := admissionv1.Create
	if oldShoot != nil {
		operation = admissionv1.Update
	}
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: operation, Namespace: namespace, Name: shoot.Name, Object: encode(shoot), OldObject: encode(oldShoot),
	}}
}

// causes returns the errors of a review as "field: message".
func causes(response admission.Response) []string {
	GinkgoHelper()
	if response.Allowed {
		return nil
	}
	Expect(response.Result.Reason).To(Equal(metav1.StatusReasonInvalid), response.Result.Message)
	Expect(response.Result.Message).NotTo(ContainSubstring("hunter2"))
	var texts []string
	for _, cause := range response.Result.Details.Causes {
		texts = append(texts, cause.Field+": "+cause.Message)
	}
	Expect(texts).NotTo(BeEmpty())
	return texts
}

const ecr = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

// newIdentity returns a workload identity that is named after its cloud.
func newIdentity(provider, config string) *securityv1alpha1.WorkloadIdentity {
	return &securityv1alpha1.WorkloadIdentity{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: provider},
		Spec: securityv1alpha1.WorkloadIdentitySpec{TargetSystem: securityv1alpha1.TargetSystem{
			Type: provider, ProviderConfig: &runtime.RawExtension{Raw: []byte(config)},
		}},
	}
}

// identity makes a resource reference a WorkloadIdentity.
func identity(r *autoscalingv1.CrossVersionObjectReference) {
	r.APIVersion, r.Kind = "security.gardener.cloud/v1alpha1", "WorkloadIdentity"
}
