// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
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

var _ = Describe("Mirrors", func() {
	const (
		// A second extension has the second path.
		first, second = "spec.extensions[0].providerConfig", "spec.extensions[1].providerConfig"

		public  = `{"upstream":"docker.io","hosts":[{"host":"https://a"}]}`
		private = `{"upstream":"docker.io","hosts":[{"host":"https://a","caBundleSecretReferenceName":"ca"}]}`
		caField = first + ".mirrors[0].hosts[0].caBundleSecretReferenceName"
	)
	var (
		handler *shoot.Handler
		reads   map[string]int
	)

	BeforeEach(func() {
		scheme := runtime.NewScheme()
		Expect(corev1.AddToScheme(scheme)).To(Succeed())
		Expect(gardencorev1beta1.AddToScheme(scheme)).To(Succeed())
		reads = map[string]int{}
		var lock sync.Mutex
		reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
			newSecret("v1"),
			newCASecret("ca-v1"),
			newCASecret("ca-v2"),
			newCASecret("mutable", func(s *corev1.Secret) { s.Immutable = nil }),
			newCASecret("key", func(s *corev1.Secret) {
				s.Data["bundle.crt"] = append(s.Data["bundle.crt"], "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"...)
			}),
			newCASecret("more", func(s *corev1.Secret) { s.Data["tls.key"] = nil }),
			newCASecret("deleted", func(s *corev1.Secret) {
				s.DeletionTimestamp, s.Finalizers = new(metav1.Now()), []string{"gardener.cloud/reference-protection"}
			}),
		).WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				lock.Lock()
				defer lock.Unlock()
				reads[key.Name]++
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
		It("reads no Secret if there are too many CA bundles", func() {
			var items []string
			var resources []change
			for i := range 11 {
				name := fmt.Sprintf("ca-%d", i)
				items = append(items, fmt.Sprintf(`{"upstream":"%s.example.com","hosts":[{"host":"https://a","caBundleSecretReferenceName":%q}]}`, name, name))
				resources = append(resources, resource(name, "ca-v1"))
			}
			mirrored := newMirrored(append(resources, mirrors(strings.Join(items, ",")))...)
			Expect(create(mirrored)).To(ConsistOf(ContainSubstring("reference 11 CA bundles")))
			Expect(reads).To(BeEmpty())
		})

		It("accepts a valid configuration", func() {
			Expect(create(newMirrored(mirrors(private+`,{"upstream":"quay.io","hosts":[{"host":"http://[2001:db8::1]:5000/v2/quay","capabilities":["pull","resolve"],"overridePath":true}]}`),
				resource("ca", "ca-v1")))).To(BeEmpty())
		})

		It("ignores a disabled extension", func() {
			Expect(create(newMirrored(rawConfig(`"garbage"`), disabled))).To(BeEmpty())
		})

		It("requires a configuration, and workers with containerd", func() {
			Expect(create(newMirrored())).To(ConsistOf(first + ": Required value: the extension needs a MirrorConfig with at least one mirror"))
			Expect(create(newMirrored(mirrors(public), runtimes()))).To(ConsistOf(HavePrefix("spec.extensions[0]: Forbidden: mirrors are for worker nodes")))
			Expect(create(newMirrored(mirrors(public), runtimes("docker")))).To(ConsistOf(HavePrefix(`spec.provider.workers[0].cri.name: Unsupported value: "docker"`)))
		})

		DescribeTable("refuses configurations",
			func(raw string, expected ...string) {
				matchers := make([]any, len(expected))
				for i := range expected {
					matchers[i] = HavePrefix(first + expected[i])
				}
				start := time.Now()
				Expect(create(newMirrored(rawConfig(raw)))).To(ConsistOf(matchers...))
				Expect(time.Since(start)).To(BeNumerically("<", time.Minute), "a guard against runaway work, not a figure")
			},
			Entry("no type", `{"mirrors":[`+public+`]}`, ": Invalid value: cannot be decoded as a MirrorConfig"),
			Entry("Go's field names", `{"Mirrors":[{"Upstream":"docker.io"}]}`, ": Invalid value: cannot be decoded as a MirrorConfig"),
			Entry("internal version", `{"apiVersion":"mirror.extensions.gardener.cloud/__internal","kind":"MirrorConfig"}`, ": Invalid value: cannot be decoded as a MirrorConfig"),
			Entry("configuration of caches", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[]}`, ": Invalid value: cannot be decoded as a MirrorConfig"),
			Entry("unknown field", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://a","skipVerify":true}]}`), ".mirrors[0].hosts[0].skipVerify: Forbidden: unknown field"),
			Entry("duplicate field", mirrorConfig(`{"upstream":"docker.io","hosts":[],"hosts":[{"host":"https://a"}]}`), ".mirrors[0].hosts: Forbidden: duplicate field"),
			Entry("no mirrors", mirrorConfig(``), ".mirrors: Required value"),
			Entry("no hosts", mirrorConfig(`{"upstream":"docker.io"}`), ".mirrors[0].hosts: Required value"),
			Entry("several errors", mirrorConfig(`{"upstream":"docker.io/library","hosts":[{"host":"https://a/..","capabilities":["push"],"caBundleSecretReferenceName":"missing"}]}`),
				`.mirrors[0].upstream: Invalid value: "docker.io/library"`, ".mirrors[0].hosts[0].host: Invalid value",
				`.mirrors[0].hosts[0].capabilities[0]: Unsupported value: "push"`, `.mirrors[0].hosts[0].caBundleSecretReferenceName: Invalid value: "missing": there is no entry with this name in spec.resources`),
			Entry("number", mirrorConfig(`{"upstream":1e999999999}`), ".mirrors[0].upstream: Invalid value"),
			Entry("too many mirrors", mirrorConfig(strings.Repeat(public+",", 100)+public), ".mirrors: Too many: 101: must have at most 100 items"),
			Entry("far too many mirrors", mirrorConfig(strings.Repeat(`{},`, 30_000)+`{}`), ".mirrors: Invalid value: the list has more than 250 items"),
			Entry("too many hosts", mirrorConfig(`{"upstream":"docker.io","hosts":[`+strings.Repeat(`{},`, 5)+`{}]}`), ".mirrors[0].hosts: Too many: 6: must have at most 5 items"),
			Entry("too many capabilities", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://a","capabilities":[`+strings.Repeat(`"pull",`, 300)+`"pull"]}]}`), ".mirrors[0].hosts[0].capabilities: Invalid value: the list has more than 250 items"),
			Entry("long text", mirrorConfig(`{"upstream":"`+strings.Repeat("x", 250_000)+`","hosts":[{"host":"https://a"}]}`), ".mirrors[0].upstream: Too long"),
			Entry("long capability", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://a","capabilities":["`+strings.Repeat("x", 250_000)+`"]}]}`), ".mirrors[0].hosts[0].capabilities[0]: Unsupported value"),
			Entry("longer text", mirrorConfig(`{"upstream":"`+strings.Repeat("x", 1<<20)+`"}`), ": Invalid value: the configuration must have at most 262144 bytes"),
			Entry("deep nesting", strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat(`}`, 1000), ".a.a"),
			Entry("control characters", mirrorConfig(`{"upstream":"docker.io\u0000","hosts":[{"host":"https://a\u001b[2J"}]}`), ".mirrors[0].upstream: Invalid value", ".mirrors[0].hosts[0].host: Invalid value"),
			Entry("look-alikes", mirrorConfig(`{"upstream":"dосker.io","hosts":[{"host":"https://а"}]}`), ".mirrors[0].upstream: Invalid value", ".mirrors[0].hosts[0].host: Invalid value"),
		)

		DescribeTable("refuses Secrets",
			func(name, expected string) {
				Expect(create(newMirrored(mirrors(private), resource("ca", name)))).To(And(HaveEach(HavePrefix(caField+": Invalid value: ")), ContainElement(ContainSubstring(expected))))
			},
			Entry("missing", "gone", "does not exist"),
			Entry("mutable", "mutable", "immutable: true"),
			Entry("in deletion", "deleted", "is being deleted"),
			Entry("with a private key", "key", "no private keys"),
			Entry("with more keys", "more", "remove the others"),
			Entry("a credential", "v1", `the key "bundle.crt"`),
		)

		It("refuses references to other kinds", func() {
			Expect(create(newMirrored(mirrors(private), resource("ca", "ca-v1", func(r *autoscalingv1.CrossVersionObjectReference) { r.Kind = "ConfigMap" })))).
				To(ConsistOf(And(HavePrefix(caField), ContainSubstring("a ConfigMap (v1)"))))
		})

		It("reads each Secret once, also if caches and mirrors reference it", func() {
			many := make([]string, 50)
			for i := range many {
				many[i] = fmt.Sprintf(`{"upstream":"r%d.io","hosts":[{"host":"https://a","caBundleSecretReferenceName":"ca"}]}`, i)
			}
			Expect(create(newMirrored(mirrors(strings.Join(many, ",")), resource("ca", "ca-v1")))).To(BeEmpty())
			Expect(create(newMirrored(mirrors(private), caches(`{"upstream":"quay.io","secretReferenceName":"ca"}`), resource("ca", "v1")))).To(ConsistOf(
				And(HavePrefix(caField), ContainSubstring(`the key "bundle.crt"`)), And(HavePrefix(caField), ContainSubstring("remove the others"))))
			Expect(reads).To(Equal(map[string]int{"ca-v1": 1, "v1": 1}))
		})
	})

	Describe("update", func() {
		It("validates a rotation and a changed configuration", func() {
			Expect(update(newMirrored(mirrors(private), resource("ca", "ca-v1")), newMirrored(mirrors(private), resource("ca", "ca-v2")))).To(BeEmpty())
			Expect(reads).To(Equal(map[string]int{"ca-v2": 1}))
			Expect(update(newMirrored(mirrors(private), resource("ca", "ca-v1")), newMirrored(mirrors(private), resource("ca", "key")))).To(ConsistOf(HavePrefix(caField)))
			Expect(update(newMirrored(mirrors(private), resource("ca", "ca-v1")), newMirrored(mirrors(private)))).To(ConsistOf(HavePrefix(caField)))
			Expect(update(newMirrored(mirrors(public)), newMirrored(mirrors(`{"upstream":"docker.io","hosts":[{"host":"https://a"},{"host":"b"}]}`)))).
				To(ConsistOf(HavePrefix(first + ".mirrors[0].hosts[1].host")))
			Expect(update(newMirrored(mirrors(`{}`), disabled), newMirrored(mirrors(`{}`)))).To(ContainElement(HavePrefix(first + ".mirrors[0].upstream")))
		})

		DescribeTable("does not validate what did not change",
			func(changes ...change) {
				before, after := newMirrored(changes...), newMirrored(changes...)
				after.Spec.Purpose = new(gardencorev1beta1.ShootPurposeTesting)
				Expect(update(before, after)).To(BeEmpty())
				Expect(reads).To(BeEmpty())
			},
			Entry("no configuration"),
			Entry("configuration that cannot be decoded", rawConfig(`{"mirrors":"x"}`)),
			Entry("wrong fields", mirrors(`{"upstream":"a/b","x":1}`)),
			Entry("bad Secret", mirrors(private), resource("ca", "key")),
			Entry("missing Secret", mirrors(private), resource("ca", "gone")),
			Entry("missing entry", mirrors(private)),
			Entry("no workers", mirrors(public), runtimes()),
			Entry("an upstream that is both cached and mirrored", mirrors(public), caches(`{"upstream":"docker.io"}`)),
		)

		It("accepts repairs", func() {
			Expect(update(newMirrored(mirrors(`{"upstream":"a/b"}`)), newMirrored(mirrors(private), resource("ca", "ca-v1")))).To(BeEmpty())
			Expect(update(newMirrored(mirrors(private), resource("ca", "key")), newMirrored(mirrors(private), resource("ca", "ca-v1")))).To(BeEmpty())
		})

		It("never blocks a Shoot in deletion", func() {
			deleted := func(s *gardencorev1beta1.Shoot) {
				s.DeletionTimestamp, s.Finalizers = new(metav1.Now()), []string{"gardener"}
			}
			Expect(update(newMirrored(mirrors(public), deleted), newMirrored(mirrors(`{}`), deleted))).To(BeEmpty())
		})
	})

	Describe("with caches", func() {
		const (
			cached   = `{"upstream":"docker.io"}`
			other    = `{"upstream":"quay.io"}`
			mirrored = `{"upstream":"ghcr.io","hosts":[{"host":"https://a"}]},` + public
			conflict = "cannot be both cached and mirrored"
		)
		mirrorPath, cachePath := And(HavePrefix(first+`.mirrors[1].upstream: Invalid value: "docker.io"`), ContainSubstring(conflict)),
			And(HavePrefix(second+`.caches[1].upstream: Invalid value: "docker.io"`), ContainSubstring(conflict))

		It("accepts caches and mirrors of different upstreams", func() {
			Expect(create(newMirrored(mirrors(mirrored), caches(other)))).To(BeEmpty())
			Expect(create(newMirrored(mirrors(mirrored), caches(`{"upstream":"docker.io:5000"}`)))).To(BeEmpty())
		})

		It("refuses both for one upstream", func() {
			Expect(create(newMirrored(mirrors(mirrored), caches(other+","+cached)))).To(ConsistOf(mirrorPath))
		})

		It("refuses both by an update that adds one of the two", func() {
			Expect(update(newMirrored(mirrors(mirrored), caches(other)), newMirrored(mirrors(mirrored), caches(other+","+cached)))).To(ConsistOf(cachePath))
			Expect(update(newMirrored(mirrors(mirrored)), newMirrored(mirrors(mirrored), caches(other+","+cached)))).To(ConsistOf(cachePath))
			Expect(update(newMirrored(mirrors(`{"upstream":"ghcr.io","hosts":[{"host":"https://a"}]}`), caches(other+","+cached)), newMirrored(mirrors(mirrored), caches(other+","+cached)))).To(ConsistOf(mirrorPath))
		})

		It("refuses to reserve a cache for nodes beside a mirror, if a Shoot already has both", func() {
			restricted := `{"upstream":"docker.io","access":{"mode":"Nodes"}}`
			both, reserved := newMirrored(mirrors(mirrored), caches(other+","+cached)), newMirrored(mirrors(mirrored), caches(other+","+restricted))
			Expect(update(both, both)).To(BeEmpty())
			Expect(update(both, reserved)).To(ConsistOf(And(
				HavePrefix(second+`.caches[1].upstream: Invalid value: "docker.io"`), ContainSubstring("nodes would not use the cache beside a mirror"),
			)))
			Expect(update(reserved, reserved)).To(BeEmpty())
		})

		It("refuses both by an update that enables one of the two", func() {
			without := func(i int) change {
				return func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions[i].Disabled = new(true) }
			}
			both := []change{mirrors(mirrored), caches(other + "," + cached)}
			Expect(create(newMirrored(append(both, without(0))...))).To(BeEmpty())
			Expect(create(newMirrored(append(both, without(1))...))).To(BeEmpty())
			Expect(update(newMirrored(append(both, without(0))...), newMirrored(both...))).To(ConsistOf(mirrorPath))
			Expect(update(newMirrored(append(both, without(1))...), newMirrored(both...))).To(ConsistOf(cachePath))
		})

		It("accepts an update that replaces one by the other", func() {
			Expect(update(newMirrored(mirrors(mirrored), caches(other)), newMirrored(mirrors(`{"upstream":"ghcr.io","hosts":[{"host":"https://a"}]}`), caches(other+","+cached)))).To(BeEmpty())
		})

		It("reports the errors of both, and those of the workers once", func() {
			Expect(create(newMirrored(mirrors(`{"upstream":"ghcr.io"}`), caches(`{"upstream":"a/b"}`), runtimes("docker")))).To(ConsistOf(
				HavePrefix(first+".mirrors[0].hosts: Required value"), HavePrefix(second+".caches[0].upstream"), HavePrefix("spec.provider.workers[0].cri.name"),
			))
		})
	})

	Describe("warnings", func() {
		const (
			resolve     = "mirror https://a: with resolve, it decides which image a tag means"
			onlyResolve = "mirror https://a: the capability resolve has no effect without pull"
			plain       = "mirror http://a: since the URL begins with http://"
			plainCA     = "mirror http://a: with a CA bundle, nodes try HTTPS first"
			root        = "mirror https://a: overridePath without a path"
			service     = "mirror https://harbor.registry.svc:5000: nodes usually cannot resolve"
			self        = "mirror https://registry-1.docker.io: this is the upstream itself"
		)
		warnings := func(oldShoot, shoot *gardencorev1beta1.Shoot) []string {
			GinkgoHelper()
			response := handler.Handle(context.Background(), review(shoot, oldShoot))
			Expect(response.Allowed).To(BeTrue(), "%v", response.Result)
			for _, warning := range response.Warnings {
				Expect(len(warning)).To(BeNumerically("<=", 256), "an API server may truncate it")
			}
			return response.Warnings
		}
		host := func(fields string) change {
			return mirrors(`{"upstream":"docker.io","hosts":[{` + fields + `}]}`)
		}

		DescribeTable("of a new Shoot",
			func(expected []string, changes ...change) {
				matchers := make([]any, 0, len(expected))
				for _, prefix := range expected {
					matchers = append(matchers, HavePrefix(prefix))
				}
				Expect(warnings(nil, newMirrored(changes...))).To(ConsistOf(matchers...))
			},
			Entry("harmless", nil, host(`"host":"https://a"`)),
			Entry("resolve", []string{resolve}, host(`"host":"https://a","capabilities":["pull","resolve"]`)),
			Entry("only resolve", []string{onlyResolve}, host(`"host":"https://a","capabilities":["resolve"]`)),
			Entry("plain HTTP", []string{plain}, host(`"host":"http://a"`)),
			Entry("plain HTTP with a CA bundle", []string{plain, plainCA}, host(`"host":"http://a","caBundleSecretReferenceName":"ca"`), resource("ca", "ca-v1")),
			Entry("the root of the server", []string{root}, host(`"host":"https://a","overridePath":true`)),
			Entry("overridePath with a path", nil, host(`"host":"https://a/b","overridePath":true`)),
			Entry("the name of a Service", []string{service}, host(`"host":"https://harbor.registry.svc:5000"`)),
			Entry("the full name of a Service", []string{"mirror https://harbor.registry.svc.cluster.local: nodes"}, host(`"host":"https://harbor.registry.svc.cluster.local"`)),
			Entry("the upstream itself", []string{self}, host(`"host":"https://registry-1.docker.io"`)),
			Entry("a disabled extension", nil, host(`"host":"http://a"`), disabled),
			Entry("a host of several upstreams", []string{plain}, mirrors(`{"upstream":"a","hosts":[{"host":"http://a"}]},{"upstream":"b","hosts":[{"host":"http://a"}]}`)),
			Entry("long hosts", []string{"mirror https://aaa"}, mirrors(`{"upstream":"a","hosts":[`+
				`{"host":"https://`+strings.Repeat("a", 63)+strings.Repeat("."+strings.Repeat("a", 60), 3)+`/`+strings.Repeat("a", 200)+`","capabilities":["pull","resolve"]},`+
				`{"host":"https://`+strings.Repeat("b", 63)+`","capabilities":["pull","resolve"]}]}`)),
			Entry("many hosts", []string{"mirror https://1.2.3.1, https://1.2.3.2, https://1.2.3.3 and 2 more: with resolve"}, mirrors(`{"upstream":"a","hosts":[`+
				`{"host":"https://1.2.3.1","capabilities":["pull","resolve"]},{"host":"https://1.2.3.2","capabilities":["pull","resolve"]},{"host":"https://1.2.3.3","capabilities":["pull","resolve"]},`+
				`{"host":"https://1.2.3.4","capabilities":["pull","resolve"]},{"host":"https://1.2.3.5","capabilities":["pull","resolve"]}]}`)),
		)

		It("are not repeated", func() {
			before := newMirrored(host(`"host":"http://a"`))
			Expect(warnings(before, newMirrored(host(`"host":"http://a","capabilities":["resolve","pull"]`)))).To(ConsistOf(HavePrefix("mirror http://a: with resolve")))
			Expect(warnings(before, newMirrored(mirrors(`{"upstream":"docker.io","hosts":[{"host":"http://a"},{"host":"http://b"}]}`)))).To(ConsistOf(HavePrefix("mirror http://b: ")))
		})

		It("are returned for caches and mirrors", func() {
			Expect(warnings(nil, newMirrored(mirrors(`{"upstream":"ghcr.io","hosts":[{"host":"http://a"}]}`), caches(`{"upstream":"docker.io"}`)))).
				To(ConsistOf(HavePrefix("cache docker.io: without"), HavePrefix(plain)))
		})
	})
})

// newMirrored returns a Shoot that uses the extension registry-mirror.
func newMirrored(changes ...change) *gardencorev1beta1.Shoot {
	return newShoot(append([]change{func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions[0].Type = "registry-mirror" }}, changes...)...)
}

// mirrors sets the mirrors, given as JSON objects.
func mirrors(text string) change {
	return rawConfig(mirrorConfig(text))
}

func mirrorConfig(mirrors string) string {
	return `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[` + mirrors + `]}`
}

// caches adds the extension registry-cache with caches, given as JSON objects.
func caches(text string) change {
	return func(s *gardencorev1beta1.Shoot) {
		s.Spec.Extensions = append(s.Spec.Extensions, gardencorev1beta1.Extension{
			Type:           "registry-cache",
			ProviderConfig: &runtime.RawExtension{Raw: []byte(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` + text + `]}`)},
		})
	}
}

var caBundle = func() []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}()

func newCASecret(name string, changes ...func(*corev1.Secret)) *corev1.Secret {
	return newSecret(name, append([]func(*corev1.Secret){func(s *corev1.Secret) {
		s.Data = map[string][]byte{"bundle.crt": append([]byte(nil), caBundle...)}
	}}, changes...)...)
}
