// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"strings"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	mirrorsPath   = "spec.extensions[0].providerConfig.mirrors"
	hostPath      = mirrorsPath + "[0].hosts[0]"
	caReference   = hostPath + ".caBundleSecretReferenceName"
	publicMirror  = `{"upstream":"docker.io","hosts":[{"host":"https://mirror.example.com"}]}`
	privateMirror = `{"upstream":"docker.io","hosts":[{"host":"https://mirror.example.com","caBundleSecretReferenceName":"robot"}]}`
)

var _ = Describe("Mirrors", func() {
	Describe("creation", func() {
		It("accepts valid mirrors with all fields", func() {
			Expect(create(newMirrored(mirrors(privateMirror+`,{"upstream":"registry.example.com:5000","hosts":[
				{"host":"https://harbor.example.com/v2/docker-hub/","capabilities":["pull","resolve"],"caBundleSecretReferenceName":"robot","overridePath":true},
				{"host":"http://10.0.0.1:5000","capabilities":[]},{"host":"https://[2001:db8::1]:5000/v2"},{"host":"https://[2001:db8::1]"}]}`), resource(newCASecret())))).To(Succeed())
		})

		It("ignores a disabled extension", func() {
			Expect(create(newMirrored(mirrors(`{}`), disabled))).To(Succeed())
		})

		DescribeTable("refuses configurations",
			func(change change, field, message string) {
				start := time.Now()
				Expect(create(newMirrored(change))).To(beDenied(field, message))
				Expect(time.Since(start)).To(BeNumerically("<", 10*time.Second))
			},
			Entry("none", func(*gardencorev1beta1.Shoot) {}, "spec.extensions[0].providerConfig", "Required value: the extension needs a MirrorConfig"),
			Entry("untyped", rawConfig(`{"mirrors":[`+publicMirror+`]}`), "spec.extensions[0].providerConfig", "cannot be decoded as a MirrorConfig"),
			Entry("Go's field names", rawConfig(`{"Mirrors":[{"Upstream":"docker.io"}]}`), "spec.extensions[0].providerConfig", "cannot be decoded as a MirrorConfig"),
			Entry("the internal version", rawConfig(`{"apiVersion":"mirror.extensions.gardener.cloud/__internal","kind":"MirrorConfig","Mirrors":[]}`), "spec.extensions[0].providerConfig", "cannot be decoded as a MirrorConfig"),
			Entry("another kind", caches(`{"upstream":"docker.io"}`), "spec.extensions[0].providerConfig", "cannot be decoded as a MirrorConfig"),
			Entry("unknown field", mirrors(`{"upstream":"docker.io","hosts":[{"host":"https://a","skipVerify":true}]}`), hostPath+".skipVerify", "unknown field"),
			Entry("duplicate field", mirrors(`{"upstream":"docker.io","hosts":[{"host":"https://a","host":"https://b"}]}`), hostPath+".host", "duplicate field"),
			Entry("no mirrors", mirrors(``), mirrorsPath, "at least one mirror"),
			Entry("no upstream", mirrors(`{"hosts":[{"host":"https://a"}]}`), mirrorsPath+"[0].upstream", "Required value"),
			Entry("an upstream with a scheme", mirrors(`{"upstream":"https://docker.io","hosts":[{"host":"https://a"}]}`), mirrorsPath+"[0].upstream", "without a scheme"),
			Entry("an upstream with a path", mirrors(`{"upstream":"docker.io/library","hosts":[{"host":"https://a"}]}`), mirrorsPath+"[0].upstream", "without a path"),
			Entry("an upstream with an invalid port", mirrors(`{"upstream":"docker.io:65536","hosts":[{"host":"https://a"}]}`), mirrorsPath+"[0].upstream", "from 1 to 65535"),
			Entry("containerd's default", mirrors(`{"upstream":"_default","hosts":[{"host":"https://a"}]}`), mirrorsPath+"[0].upstream", "DNS name"),
			Entry("an upstream twice", mirrors(publicMirror+","+publicMirror), mirrorsPath+"[1].upstream", "Duplicate value"),
			Entry("no hosts", mirrors(`{"upstream":"docker.io","hosts":[]}`), mirrorsPath+"[0].hosts", "at least one host"),
			Entry("an empty host", mirrors(`{"upstream":"docker.io","hosts":[{}]}`), hostPath+".host", "Required value"),
			Entry("a host without a scheme", host(`mirror.example.com`), hostPath+".host", "must begin with https://"),
			Entry("a host with another scheme", host(`oci://mirror.example.com`), hostPath+".host", "must begin with https://"),
			Entry("a host in upper case", host(`https://Mirror.example.com`), hostPath+".host", "must be written as https://mirror.example.com"),
			Entry("a host with a user", host(`https://john:hunter2@mirror.example.com`), hostPath+".host", "must not contain a user name or password"),
			Entry("a host with a query", host(`https://mirror.example.com/v2?a=b`), hostPath+".host", "query"),
			Entry("a host with an empty query", host(`https://mirror.example.com?`), hostPath+".host", "query"),
			Entry("a host with a fragment", host(`https://mirror.example.com/#a`), hostPath+".host", "fragment"),
			Entry("a host with an empty fragment", host(`https://mirror.example.com#`), hostPath+".host", "fragment"),
			Entry("a path with .", host(`https://mirror.example.com/./v2`), hostPath+".host", "path segments"),
			Entry("a path with ..", host(`https://mirror.example.com/v2/../../etc`), hostPath+".host", "path segments"),
			Entry("a path with encoded dots", host(`https://mirror.example.com/%2e%2e/etc`), hostPath+".host", "letters, digits"),
			Entry("a path with an empty segment", host(`https://mirror.example.com//v2`), hostPath+".host", "single slashes"),
			Entry("a path with a quote", host(`https://mirror.example.com/\"]\n[host.\"https://evil.example.com`), hostPath+".host", "letters, digits"),
			Entry("an IPv6 address with a zone", host(`https://[fe80::1%25eth0]`), hostPath+".host", "without a zone"),
			Entry("an invalid port", host(`https://mirror.example.com:0`), hostPath+".host", "from 1 to 65535"),
			Entry("a host twice", mirrors(`{"upstream":"docker.io","hosts":[{"host":"https://a"},{"host":"https://a:443/"}]}`), mirrorsPath+"[0].hosts[1].host", "Duplicate value"),
			Entry("an unknown capability", mirrors(`{"upstream":"docker.io","hosts":[{"host":"https://a","capabilities":["pull","push"]}]}`), hostPath+".capabilities[1]", "Unsupported value"),
			Entry("a capability twice", mirrors(`{"upstream":"docker.io","hosts":[{"host":"https://a","capabilities":["pull","pull"]}]}`), hostPath+".capabilities[1]", "Duplicate value"),
			Entry("an empty reference", mirrors(`{"upstream":"docker.io","hosts":[{"host":"https://a","caBundleSecretReferenceName":""}]}`), caReference, "must be the name of an entry in spec.resources"),
			Entry("no entry in spec.resources", mirrors(privateMirror), caReference, "there is no entry with this name in spec.resources"),
			Entry("too many CA bundles", func(s *gardencorev1beta1.Shoot) {
				hosts := make([]string, 11)
				for i := range hosts {
					hosts[i] = fmt.Sprintf(`{"upstream":"r%d.io","hosts":[{"host":"https://a","caBundleSecretReferenceName":"ca%d"}]}`, i, i)
				}
				mirrors(strings.Join(hosts, ","))(s)
			}, mirrorsPath, "at most 10 are possible"),
		)

		DescribeTable("refuses hostile configurations",
			func(config string, field, message string) {
				shoot := newMirrored(rawConfig(config))
				// gardener-apiserver itself takes a moment for large objects, so measure the webhook alone.
				start := time.Now()
				Expect(callWebhook(shoot.DeepCopy(), nil).Allowed).To(BeFalse())
				Expect(time.Since(start)).To(BeNumerically("<", time.Minute), "a guard against runaway work, not a figure")
				Expect(create(shoot)).To(beDenied(field, message))
			},
			Entry("a long text", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://`+strings.Repeat("a", 200_000)+`"}]}`), hostPath+".host", "Too long"),
			Entry("a text of 1 MiB", mirrorConfig(`{"upstream":"`+strings.Repeat("a", 1<<20)+`"}`), "spec.extensions[0].providerConfig", "at most 262144 bytes"),
			Entry("a long path", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://a`+strings.Repeat("/..", 60_000)+`"}]}`), hostPath+".host", "Too long"),
			Entry("a long capability", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://a","capabilities":["`+strings.Repeat("a", 200_000)+`"]}]}`), hostPath+".capabilities[0]", "Unsupported value"),
			Entry("thousands of mirrors", mirrorConfig(strings.Repeat(`{},`, 50_000)+`{}`), mirrorsPath, "more than 250 items"),
			Entry("more mirrors than allowed", mirrorConfig(strings.Repeat(publicMirror+",", 100)+publicMirror), mirrorsPath, "at most 100 items"),
			Entry("thousands of hosts", mirrorConfig(`{"upstream":"docker.io","hosts":[`+strings.Repeat(`{},`, 50_000)+`{}]}`), mirrorsPath+"[0].hosts", "more than 250 items"),
			Entry("more hosts than allowed", mirrorConfig(`{"upstream":"docker.io","hosts":[`+strings.Repeat(`{},`, 5)+`{}]}`), mirrorsPath+"[0].hosts", "at most 5 items"),
			Entry("thousands of capabilities", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://a","capabilities":[`+strings.Repeat(`"pull",`, 30_000)+`"pull"]}]}`), hostPath+".capabilities", "more than 250 items"),
			Entry("many unknown fields", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://a",`+fields(1000)+`}]}`), hostPath+".f0", "unknown field"),
			Entry("a field many times", mirrorConfig(`{`+strings.Repeat(`"upstream":"docker.io",`, 1000)+`"hosts":[{"host":"https://a"}]}`), mirrorsPath+"[0].upstream", "duplicate field"),
			Entry("deep nesting", strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat(`}`, 1000), "spec.extensions[0].providerConfig"+strings.Repeat(".a", 17), "nested more than 16 levels"),
			Entry("control characters", mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"https://a\u0000\u001b[2J"}]}`), hostPath+".host", "Invalid value"),
			Entry("a line break", mirrorConfig(`{"upstream":"docker.io\n[host]","hosts":[{"host":"https://a"}]}`), mirrorsPath+"[0].upstream", "Invalid value"),
			Entry("look-alikes in an upstream", mirrorConfig(`{"upstream":"dосker.io","hosts":[{"host":"https://a"}]}`), mirrorsPath+"[0].upstream", "Invalid value"),
			Entry("look-alikes in a host", hostConfig(`https://mіrror.example.com`), hostPath+".host", "must name a host"),
			Entry("an invisible character", hostConfig(`https://mirror\u200b.example.com`), hostPath+".host", "must name a host"),
		)

		It("refuses hostile numbers", func() {
			// gardener-apiserver fails with an internal error when it encodes such numbers, so the webhook is called directly.
			for _, number := range []string{"1e999999999", "-1e-9000000", strings.Repeat("9", 100_000)} {
				start := time.Now()
				response := callWebhook(newMirrored(mirrors(`{"upstream":`+number+`}`)), nil)
				Expect(response.Result.Message).To(ContainSubstring(mirrorsPath + "[0].upstream: Invalid value"))
				Expect(time.Since(start)).To(BeNumerically("<", time.Minute), "a guard against runaway work, not a figure")
			}
		})

		DescribeTable("refuses CA Secrets",
			func(change func(*corev1.Secret), messages ...string) {
				err := create(newMirrored(mirrors(privateMirror), resource(newCASecret(change))))
				for _, message := range messages {
					Expect(err).To(beDenied(caReference, message))
				}
				Expect(err).To(MatchError(Not(Or(ContainSubstring("MII"), ContainSubstring("BEGIN")))))
			},
			Entry("mutable", func(s *corev1.Secret) { s.Immutable = nil }, "must be immutable"),
			Entry("without data", func(s *corev1.Secret) { s.Data = nil }, `must have the key "bundle.crt"`),
			Entry("with another key", func(s *corev1.Secret) { s.Data = map[string][]byte{"ca.crt": s.Data["bundle.crt"]} }, `must have the key "bundle.crt"`, "remove the others"),
			Entry("with more keys", func(s *corev1.Secret) { s.Data["tls.key"] = []byte("hunter2") }, `must have only the key "bundle.crt"`),
			Entry("empty", func(s *corev1.Secret) { s.Data["bundle.crt"] = nil }, "at least one certificate"),
			Entry("without PEM", func(s *corev1.Secret) { s.Data["bundle.crt"] = []byte("hunter2") }, "at least one certificate"),
			Entry("with a private key", func(s *corev1.Secret) {
				s.Data["bundle.crt"] = append(s.Data["bundle.crt"], "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"...)
			}, "PEM block 2 is not a certificate"),
			Entry("with a damaged certificate", func(s *corev1.Secret) {
				s.Data["bundle.crt"] = append(s.Data["bundle.crt"], "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n"...)
			}, "certificate 2 cannot be parsed"),
			Entry("with text", func(s *corev1.Secret) {
				s.Data["bundle.crt"] = append([]byte("subject=hunter2\n"), s.Data["bundle.crt"]...)
			}, "remove all text around them"),
			Entry("with too many bytes", func(s *corev1.Secret) {
				s.Data["bundle.crt"] = append(s.Data["bundle.crt"], strings.Repeat("-----BEGIN CERTIFICATE-----\n", 20_000)...)
			}, "at most 32768 bytes"),
			Entry("with only expired certificates", func(s *corev1.Secret) { s.Data["bundle.crt"] = newCABundle(-time.Hour) }, "have expired"),
			Entry("with a credential", func(s *corev1.Secret) { s.Data = newSecret().Data }, `must have the key "bundle.crt"`),
		)

		It("refuses a missing Secret, and a reference to another kind", func() {
			// Gardener refuses the first one on its own, so the test also calls the webhook directly.
			shoot := newMirrored(mirrors(privateMirror), reference("missing", "Secret"))
			Expect(create(shoot)).NotTo(Succeed())
			Expect(callWebhook(shoot, nil).Result.Message).To(And(ContainSubstring(caReference), ContainSubstring("does not exist")))

			configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "map-"}}
			Expect(testClient.Create(ctx, configMap)).To(Succeed())
			Expect(create(newMirrored(mirrors(privateMirror), reference(configMap.Name, "ConfigMap")))).To(beDenied(caReference, "must reference a Secret (v1)"))
		})

		It("reports all errors at once", func() {
			err := create(newMirrored(mirrors(`{"upstream":"a/b","hosts":[{"host":"x","capabilities":["push"],"caBundleSecretReferenceName":"robot"}]}`),
				resource(newCASecret(func(s *corev1.Secret) { s.Immutable = nil }))))
			for _, field := range []string{mirrorsPath + "[0].upstream", hostPath + ".host", hostPath + ".capabilities[0]", caReference} {
				Expect(err).To(beDenied(field, ""))
			}
		})
	})

	Describe("update", func() {
		It("validates what changes", func() {
			shoot := newMirrored(mirrors(privateMirror), resource(newCASecret()))
			Expect(create(shoot)).To(Succeed())
			Expect(update(shoot, mirrors(privateMirror+`,{"upstream":"quay.io","hosts":[{"host":"b"}]}`))).To(beDenied(mirrorsPath+"[1].hosts[0].host", "https://"))
			Expect(update(shoot, noResources)).To(beDenied(caReference, "spec.resources"))
			Expect(update(shoot, mirrors(privateMirror+`,{"upstream":"quay.io","hosts":[{"host":"https://b"}]}`))).To(Succeed())
			Expect(update(shoot, mirrors(publicMirror), noResources)).To(Succeed())
		})

		It("validates the Secret of a rotation", func() {
			shoot := newMirrored(mirrors(privateMirror), resource(newCASecret()))
			Expect(create(shoot)).To(Succeed())
			for message, change := range map[string]func(*corev1.Secret){
				"immutable: true":      func(s *corev1.Secret) { s.Immutable = nil },
				`the key "bundle.crt"`: func(s *corev1.Secret) { s.Data = nil },
				"have expired":         func(s *corev1.Secret) { s.Data["bundle.crt"] = newCABundle(-time.Hour) },
			} {
				Expect(update(shoot, resource(newCASecret(change)))).To(beDenied(caReference, message))
			}
			both := newCASecret(func(s *corev1.Secret) { s.Data["bundle.crt"] = append(s.Data["bundle.crt"], newCABundle(time.Hour)...) })
			Expect(update(shoot, resource(both))).To(Succeed())
			Expect(update(shoot, resource(newCASecret()))).To(Succeed())
		})

		It("validates the extension when it is enabled, not when it is disabled", func() {
			shoot := newMirrored(mirrors(privateMirror), resource(newCASecret()))
			Expect(create(shoot)).To(Succeed())
			Expect(update(shoot, disabled, mirrors(`{}`), noResources)).To(Succeed())
			Expect(update(shoot, enabled)).To(beDenied(mirrorsPath+"[0].upstream", "Required value"))
			Expect(update(shoot, enabled, mirrors(publicMirror))).To(Succeed())
		})

		It("does not hold a Secret that was replaced against the owner", func() {
			shoot := newMirrored(mirrors(privateMirror), resource(newCASecret()))
			Expect(create(shoot)).To(Succeed())
			replaceSecret(shoot, func(s *corev1.Secret) { s.Immutable, s.Data = nil, nil })
			Expect(update(shoot, func(s *gardencorev1beta1.Shoot) { s.Labels["team"] = "a" })).To(Succeed())
			Expect(update(shoot, mirrors(privateMirror+`,{"upstream":"quay.io","hosts":[{"host":"https://b"}]}`))).To(Succeed())
			Expect(update(shoot, mirrors(privateMirror+`,{"upstream":"quay.io","hosts":[{"host":"https://b","caBundleSecretReferenceName":"robot"}]}`))).
				To(beDenied(mirrorsPath+"[1].hosts[0].caBundleSecretReferenceName", "immutable: true"))
			Expect(update(shoot, resource(newCASecret()))).To(Succeed())
		})

		It("does not validate what did not change", func() {
			// Only an older version of the program accepts such configurations.
			for _, config := range []string{
				mirrorConfig(`{"upstream":1e999999999}`), mirrorConfig(`{"upstream":"a/b","x":1,"hosts":[]}`), mirrorConfig(strings.Repeat(publicMirror+",", 300) + publicMirror),
			} {
				before := newMirrored(rawConfig(config))
				after := before.DeepCopy()
				after.Spec.Purpose = new(gardencorev1beta1.ShootPurposeTesting)
				Expect(callWebhook(after, before).Allowed).To(BeTrue())
				mirrors(publicMirror)(after)
				Expect(callWebhook(after, before).Allowed).To(BeTrue())
			}
		})

		It("does not block a Shoot in deletion", func() {
			shoot := newMirrored(mirrors(privateMirror), resource(newCASecret()), func(s *gardencorev1beta1.Shoot) {
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

	Describe("with caches", func() {
		const (
			conflict  = "cannot be both cached and mirrored"
			cachePath = "spec.extensions[1].providerConfig.caches[0].upstream"
		)

		It("are refused for a cached upstream, whichever of the two is added", func() {
			Expect(create(newMirrored(mirrors(publicMirror), andCaches(`{"upstream":"docker.io"}`)))).To(beDenied(mirrorsPath+"[0].upstream", conflict))

			mirrored := newMirrored(mirrors(publicMirror))
			Expect(create(mirrored)).To(Succeed())
			Expect(update(mirrored, andCaches(`{"upstream":"docker.io"}`))).To(beDenied(cachePath, conflict))
			Expect(update(mirrored, andCaches(`{"upstream":"quay.io"}`))).To(Succeed())
			Expect(update(mirrored, andCaches(`{"upstream":"docker.io"}`))).To(beDenied(cachePath, conflict))
			Expect(update(mirrored, mirrors(publicMirror+`,{"upstream":"quay.io","hosts":[{"host":"https://a"}]}`))).To(beDenied(mirrorsPath+"[1].upstream", conflict))

			By("a cache that takes the place of a mirror")
			Expect(update(mirrored, mirrors(`{"upstream":"ghcr.io","hosts":[{"host":"https://a"}]}`), andCaches(`{"upstream":"docker.io"}`))).To(Succeed())
			Expect(update(mirrored, mirrors(publicMirror))).To(beDenied(mirrorsPath+"[0].upstream", conflict))

			By("an extension that is enabled")
			Expect(update(mirrored, mirrors(publicMirror), disabled)).To(Succeed())
			Expect(update(mirrored, enabled)).To(beDenied(mirrorsPath+"[0].upstream", conflict))
		})
	})

	It("are validated only by a running program, and warned about once", func() {
		var warnings warnings
		config := rest.CopyConfig(restConfig)
		config.WarningHandler = &warnings
		warned, err := client.New(config, client.Options{Scheme: kubernetes.GardenScheme})
		Expect(err).NotTo(HaveOccurred())
		shoot := newMirrored(mirrors(`{"upstream":"docker.io","hosts":[{"host":"http://mirror.example.com","capabilities":["pull","resolve"]}]}`))
		Expect(warned.Create(ctx, shoot)).To(Succeed())
		Expect(warnings).To(ContainElements(HavePrefix("mirror http://mirror.example.com: with resolve"), HavePrefix("mirror http://mirror.example.com: since the URL begins with http://")))
		warnings = nil
		shoot.Labels["team"] = "a"
		Expect(warned.Update(ctx, shoot)).To(Succeed())
		Expect(warnings).NotTo(ContainElement(ContainSubstring("mirror ")))

		DeferCleanup(func() { program.start() })
		program.stop()
		Expect(create(newMirrored(mirrors(publicMirror)))).To(MatchError(ContainSubstring("failed calling webhook")))
		// The old Shoot has the label, the new one does not.
		Expect(update(shoot, func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions = nil })).To(MatchError(ContainSubstring("failed calling webhook")))
		Expect(create(newShoot(func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions = nil }))).To(Succeed())
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

// host sets one mirror of one host, given as the content of a JSON string.
func host(text string) change {
	return rawConfig(hostConfig(text))
}

func hostConfig(text string) string {
	return mirrorConfig(`{"upstream":"docker.io","hosts":[{"host":"` + text + `"}]}`)
}

func mirrorConfig(mirrors string) string {
	return `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[` + mirrors + `]}`
}

// fields returns different unknown fields.
func fields(count int) string {
	texts := make([]string, count)
	for i := range texts {
		texts[i] = fmt.Sprintf(`"f%d":1`, i)
	}
	return strings.Join(texts, ",")
}

// andCaches sets the caches of the second extension, given as JSON objects.
func andCaches(text string) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		shoot.Spec.Extensions = append(shoot.Spec.Extensions[:1:1], gardencorev1beta1.Extension{
			Type:           "registry-cache",
			ProviderConfig: &runtime.RawExtension{Raw: []byte(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` + text + `]}`)},
		})
	}
}

// newCASecret returns a valid CA Secret, changed.
func newCASecret(changes ...func(*corev1.Secret)) *corev1.Secret {
	return newSecret(append([]func(*corev1.Secret){func(s *corev1.Secret) {
		s.GenerateName, s.Data = "ca-", map[string][]byte{"bundle.crt": newCABundle(time.Hour)}
	}}, changes...)...)
}

// newCABundle returns a certificate in PEM that is valid for the given time.
func newCABundle(validity time.Duration) []byte {
	config := secretsutils.CertificateSecretConfig{Name: "ca", CommonName: "mirror", CertType: secretsutils.CACert, Validity: &validity}
	certificate, err := config.GenerateCertificate()
	if err != nil {
		panic(err)
	}
	return certificate.CertificatePEM
}
