// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"slices"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	mirrorcodec "github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
	"github.com/larder-project/larder/test/pki"
)

const testNamespace = "shoot--dev--example"

var privateKey = []byte("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n")

var _ = Describe("Mutator", func() {
	var (
		ctx       = context.Background()
		shoot     *gardencorev1beta1.Shoot
		extension *extensionsv1alpha1.Extension
		caSecret  *corev1.Secret
		osc       *extensionsv1alpha1.OperatingSystemConfig
		reads     map[string]int
	)

	BeforeEach(func() {
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		providerStatus, err := codec.EncodeStatus(statusOf(dockerTLS))
		Expect(err).NotTo(HaveOccurred())

		shoot = &gardencorev1beta1.Shoot{
			TypeMeta:   metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "garden-dev", Name: "example"},
		}
		extension = &extensionsv1alpha1.Extension{
			ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "registry-cache"},
			Status:     extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{ProviderStatus: providerStatus}},
		}
		caSecret = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "ca-extension-registry-cache-bundle"},
			Data:       map[string][]byte{"bundle.crt": testCABundle},
		}
		osc = &extensionsv1alpha1.OperatingSystemConfig{
			ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "pool"},
			Spec:       bareSpec(),
		}
		reads = map[string]int{}
	})

	mutateWith := func(source func() (Source, error), objects ...client.Object) error {
		GinkgoHelper()
		shootJSON, err := json.Marshal(shoot)
		Expect(err).NotTo(HaveOccurred())
		cluster := &extensionsv1alpha1.Cluster{
			ObjectMeta: metav1.ObjectMeta{Name: testNamespace},
			Spec:       extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: shootJSON}},
		}
		reader := fake.NewClientBuilder().
			WithScheme(kubernetes.SeedScheme).
			WithObjects(append(objects, cluster)...).
			WithInterceptorFuncs(interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
					kind, err := c.GroupVersionKindFor(obj)
					Expect(err).NotTo(HaveOccurred())
					reads[kind.Kind]++
					return c.Get(ctx, key, obj, opts...)
				},
			}).
			Build()
		from, err := source()
		Expect(err).NotTo(HaveOccurred())
		return (&Mutator{Reader: reader, Source: from}).Mutate(ctx, osc, nil)
	}
	mutate := func(objects ...client.Object) error {
		GinkgoHelper()
		return mutateWith(func() (Source, error) {
			codec, err := codec.New()
			return Caches{Codec: codec}, err
		}, objects...)
	}

	It("adds the cache and its CA, and reads each object once", func() {
		Expect(mutate(extension, caSecret)).To(Succeed())

		Expect(osctest.Installed(osc)).To(HaveLen(1))
		Expect(osc.Spec.CRIConfig.Containerd.SandboxImage).To(Equal("registry.example.com/pause:1"))
		Expect(osc.Spec.Files).To(ContainElement(HaveField("Path", caBundlePath)))
		Expect(reads).To(Equal(map[string]int{"Cluster": 1, "Extension": 1, "Secret": 1}))
	})

	It("reads no Secret if no cache serves TLS", func() {
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		status := statusOf(dockerPlain)
		status.CASecretName = nil
		extension.Status.ProviderStatus, err = codec.EncodeStatus(status)
		Expect(err).NotTo(HaveOccurred())

		Expect(mutate(extension)).To(Succeed())
		Expect(osc.Spec.Files).NotTo(ContainElement(HaveField("Path", caBundlePath)))
		Expect(reads).To(Equal(map[string]int{"Cluster": 1, "Extension": 1}))
	})

	Describe("for a cache only for nodes", func() {
		var nodeSecret *corev1.Secret

		BeforeEach(func() {
			codec, err := codec.New()
			Expect(err).NotTo(HaveOccurred())
			extension.Status.ProviderStatus, err = codec.EncodeStatus(onlyForNodes(statusOf(dockerNodes, privateTLS)))
			Expect(err).NotTo(HaveOccurred())
			authority, err := pki.NewAuthority("nodes")
			Expect(err).NotTo(HaveOccurred())
			pair, err := authority.Issue(pki.Request{CommonName: "registry-cache-node"})
			Expect(err).NotTo(HaveOccurred())
			nodeSecret = &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "registry-cache-node"},
				Data:       map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key},
			}
		})

		It("adds the client certificate and its key as one file, which only root can read, for all caches with TLS", func() {
			Expect(mutate(extension, caSecret, nodeSecret)).To(Succeed())
			Expect(reads).To(Equal(map[string]int{"Cluster": 1, "Extension": 1, "Secret": 2}))

			i := slices.IndexFunc(osc.Spec.Files, func(file extensionsv1alpha1.File) bool { return file.Path == clientPath })
			Expect(i).To(BeNumerically(">=", 0))
			Expect(osc.Spec.Files[i].Permissions).To(HaveValue(BeEquivalentTo(0o600)))
			content, err := base64.StdEncoding.DecodeString(osc.Spec.Files[i].Content.Inline.Data)
			Expect(err).NotTo(HaveOccurred())
			_, err = tls.X509KeyPair(content, content)
			Expect(err).NotTo(HaveOccurred(), "as containerd reads it")
			Expect(osctest.Installed(osc)).To(And(
				HaveKeyWithValue("docker.io", ContainSubstring(clientPath)),
				HaveKeyWithValue("private.example.com:5443", ContainSubstring(clientPath)),
			))
		})

		It("records that another extension has hosts for the upstream, so that nodes cannot present the certificate", func() {
			osctest.Rewriter(osc)
			Expect(mutate(extension, caSecret, nodeSecret)).To(Succeed())
			Expect(osctest.Installed(osc)).NotTo(HaveKey("docker.io"))
			Expect(osc.Annotations).To(HaveKeyWithValue(registry.SharedRegistriesAnnotation, ContainSubstring(`"docker.io":`)))
		})

		DescribeTable("refuses a client certificate that containerd cannot use", func(spoil func(), message string) {
			spoil()
			before := osc.DeepCopy()
			Expect(mutate(extension, caSecret, nodeSecret)).To(MatchError(ContainSubstring(message)))
			Expect(osc).To(Equal(before))
		},
			Entry("no Secret", func() { nodeSecret.Name = "other" }, "read Secret shoot--dev--example/registry-cache-node"),
			Entry("no key", func() { delete(nodeSecret.Data, "tls.key") }, "parse client certificate"),
		)
	})

	DescribeTable("ignores irrelevant OperatingSystemConfigs in any state of the caches",
		func(prepare func()) {
			prepare()
			before := osc.DeepCopy()
			Expect(mutate()).To(Succeed())
			Expect(osc).To(Equal(before))
		},
		Entry("another purpose", func() { osc.Spec.Purpose = extensionsv1alpha1.OperatingSystemConfigPurposeProvision }),
		Entry("an OperatingSystemConfig in deletion", func() { osc.DeletionTimestamp = new(metav1.Now()) }),
		Entry("a node without containerd configuration", func() { osc.Spec.CRIConfig.Containerd = nil }),
		Entry("a node without CRI configuration", func() { osc.Spec.CRIConfig = nil }),
		Entry("a Shoot in deletion", func() { shoot.DeletionTimestamp = new(metav1.Now()) }),
		Entry("a hibernated Shoot", func() {
			shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)}
		}),
	)

	It("ignores the OperatingSystemConfig while the caches are being removed", func() {
		extension.Finalizers = []string{"extensions.gardener.cloud/registry-cache"}
		extension.DeletionTimestamp = new(metav1.Now())
		before := osc.DeepCopy()

		Expect(mutate(extension)).To(Succeed())
		Expect(osc).To(Equal(before))
	})

	It("adds the caches while a hibernated Shoot wakes up", func() {
		shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(false)}
		shoot.Status.IsHibernated = true

		Expect(mutate(extension, caSecret)).To(Succeed())
		Expect(osctest.Installed(osc)).To(HaveLen(1))
	})

	DescribeTable("refuses the request and names what is missing if the caches are unknown",
		func(objects func() []client.Object, message string) {
			before := osc.DeepCopy()
			Expect(mutate(objects()...)).To(MatchError(ContainSubstring(message)))
			Expect(osc).To(Equal(before))
		},
		Entry("no Extension", func() []client.Object { return nil }, "read Extension shoot--dev--example/registry-cache"),
		Entry("no status yet", func() []client.Object {
			extension.Status.ProviderStatus = nil
			return []client.Object{extension}
		}, "provider status of Extension shoot--dev--example/registry-cache, without which the nodes would lose their registry caches: document is missing"),
		Entry("a status of another kind", func() []client.Object {
			extension.Status.ProviderStatus = &runtime.RawExtension{Raw: []byte(`{"apiVersion":"example.com/v1","kind":"Status"}`)}
			return []client.Object{extension}
		}, "decode provider status"),
		Entry("no CA Secret", func() []client.Object { return []client.Object{extension} },
			"read Secret shoot--dev--example/ca-extension-registry-cache-bundle"),
		Entry("an empty CA Secret", func() []client.Object {
			caSecret.Data = nil
			return []client.Object{extension, caSecret}
		}, "no CA certificates of the registry caches"),
	)

	Describe("for mirrors", func() {
		var (
			mirrors  *extensionsv1alpha1.Extension
			bundle   []byte
			caSecret *corev1.Secret
		)

		BeforeEach(func() {
			authority, err := pki.NewAuthority("mirror")
			Expect(err).NotTo(HaveOccurred())
			bundle = authority.Certificate
			mirrors = &extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "registry-mirror"},
				Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{
					Type: "registry-mirror",
					ProviderConfig: &runtime.RawExtension{Raw: []byte(`{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[
						{"upstream":"docker.io","hosts":[{"host":"https://first.example.com","caBundleSecretReferenceName":"mirror-ca"},{"host":"https://second.example.com"}]},
						{"upstream":"quay.io","hosts":[{"host":"https://first.example.com","caBundleSecretReferenceName":"mirror-ca"}]}]}`)},
				}},
			}
			caSecret = &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "ref-ca-v1"},
				Immutable:  new(true),
				Data:       map[string][]byte{"bundle.crt": bundle},
			}
			shoot.Spec.Resources = []gardencorev1beta1.NamedResourceReference{{
				Name: "mirror-ca", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: "ca-v1"},
			}}
		})

		mutate := func(objects ...client.Object) error {
			GinkgoHelper()
			return mutateWith(func() (Source, error) {
				codec, err := mirrorcodec.New()
				return Mirrors{Codec: codec}, err
			}, objects...)
		}

		It("adds hosts and CA bundles, and reads each object once", func() {
			Expect(mutate(mirrors, caSecret)).To(Succeed())
			Expect(osctest.Hosts(osc)).To(Equal(map[string][]string{
				"docker.io": {"https://first.example.com", "https://second.example.com", "server https://registry-1.docker.io"},
				"quay.io":   {"https://first.example.com", "server https://quay.io"},
			}))
			Expect(osc.Spec.CRIConfig.Containerd.Registries[0].Hosts[0].CACerts).To(ConsistOf(mirrorCAPath(bundle)))
			Expect(osc.Spec.Files).To(HaveLen(3))
			Expect(reads).To(Equal(map[string]int{"Cluster": 1, "Extension": 1, "Secret": 1}))
		})

		It("adds hosts while the nodes of a hibernated Shoot still run", func() {
			shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)}
			Expect(mutate(mirrors, caSecret)).To(Succeed())
			Expect(osc.Spec.CRIConfig.Containerd.Registries).To(HaveLen(2))
			Expect(osc.Spec.Files).To(HaveLen(3))
		})

		It("leaves out everything but certificates of a Secret that only admission refuses", func() {
			bare := osc.DeepCopy()
			Expect(mutate(mirrors, caSecret)).To(Succeed())
			expected := osc
			osc = bare

			caSecret.Immutable = nil
			caSecret.Data["tls.key"] = privateKey
			caSecret.Data["bundle.crt"] = slices.Concat(privateKey, bundle, privateKey)
			Expect(mutate(mirrors, caSecret)).To(Succeed())
			Expect(osc).To(Equal(expected))
		})

		DescribeTable("ignores irrelevant OperatingSystemConfigs", func(prepare func()) {
			prepare()
			before := osc.DeepCopy()
			Expect(mutate()).To(Succeed())
			Expect(osc).To(Equal(before))
		},
			Entry("another purpose", func() { osc.Spec.Purpose = extensionsv1alpha1.OperatingSystemConfigPurposeProvision }),
			Entry("a Shoot in deletion", func() { shoot.DeletionTimestamp = new(metav1.Now()) }),
		)

		DescribeTable("refuses the request and names what is missing", func(objects func() []client.Object, message string) {
			before := osc.DeepCopy()
			Expect(mutate(objects()...)).To(MatchError(ContainSubstring(message)))
			Expect(osc).To(Equal(before))
		},
			Entry("no Extension", func() []client.Object { return nil }, "read Extension shoot--dev--example/registry-mirror"),
			Entry("no configuration", func() []client.Object {
				mirrors.Spec.ProviderConfig = nil
				return []client.Object{mirrors}
			}, "providerConfig of Extension shoot--dev--example/registry-mirror, without which the nodes would lose their registry mirrors: document is missing"),
			Entry("no copy of the Secret", func() []client.Object { return []client.Object{mirrors} }, `the Secret "ca-v1" that spec.resources entry "mirror-ca" references has not been copied`),
			Entry("only a private key in the Secret", func() []client.Object {
				caSecret.Data["bundle.crt"] = privateKey
				return []client.Object{mirrors, caSecret}
			}, `the Secret "ca-v1" is invalid`),
		)
	})

	It("refuses objects of other kinds", func() {
		Expect((&Mutator{}).Mutate(ctx, &corev1.Secret{}, nil)).To(MatchError(ContainSubstring("*v1.Secret")))
	})
})
