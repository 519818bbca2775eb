// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package takeover_test

import (
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
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	mirrorcodec "github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/apis/mirror/validation"
	registrycodec "github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/webhook/osc"
	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/takeover"
)

const (
	namespace = "shoot--dev--example"
	address   = "10.4.0.10"
)

var _ = Describe("Nodes", func() {
	var (
		seed               client.Client
		cachesCA, mirrorCA []byte
		left               *extensionsv1alpha1.OperatingSystemConfig
	)

	BeforeEach(func() {
		caches, err := pki.NewAuthority("caches")
		Expect(err).NotTo(HaveOccurred())
		mirrorAuthority, err := pki.NewAuthority("mirror")
		Expect(err).NotTo(HaveOccurred())
		cachesCA, mirrorCA = caches.Certificate, mirrorAuthority.Certificate
		left, err = takeover.OperatingSystemConfig(address, base64.StdEncoding.EncodeToString(cachesCA), base64.StdEncoding.EncodeToString(mirrorCA))
		Expect(err).NotTo(HaveOccurred())

		shoot := &gardencorev1beta1.Shoot{
			TypeMeta:   metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "garden-dev", Name: "example"},
			Spec: gardencorev1beta1.ShootSpec{Resources: []gardencorev1beta1.NamedResourceReference{{
				Name: "mirror-ca", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: "mirror-ca"},
			}}},
		}
		shootJSON, err := json.Marshal(shoot)
		Expect(err).NotTo(HaveOccurred())
		status, err := takeover.Status(address, "ca-bundle")
		Expect(err).NotTo(HaveOccurred())
		mirrors, err := takeover.MirrorConfig()
		Expect(err).NotTo(HaveOccurred())
		seed = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(
			&extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Spec: extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: shootJSON}}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ca-bundle"}, Data: map[string][]byte{"bundle.crt": cachesCA}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ref-mirror-ca"}, Immutable: new(true), Data: map[string][]byte{"bundle.crt": mirrorCA}},
			&extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-cache"},
				Status:     extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{ProviderStatus: &runtime.RawExtension{Raw: status}}},
			},
			&extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-mirror"},
				Spec:       extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{ProviderConfig: &runtime.RawExtension{Raw: mirrors}}},
			},
		).Build()
	})

	mutate := func(ctx SpecContext, object *extensionsv1alpha1.OperatingSystemConfig) {
		GinkgoHelper()
		caches, err := registrycodec.New()
		Expect(err).NotTo(HaveOccurred())
		mirrors, err := mirrorcodec.New()
		Expect(err).NotTo(HaveOccurred())
		for _, source := range []osc.Source{osc.Caches{Codec: caches}, osc.Mirrors{Codec: mirrors}} {
			Expect((&osc.Mutator{Reader: seed, Source: source}).Mutate(ctx, object, nil)).To(Succeed())
		}
	}
	// mirrorsWithoutCA returns the registries of the mirrors without the path of the CA bundle.
	mirrorsWithoutCA := func(object *extensionsv1alpha1.OperatingSystemConfig) []extensionsv1alpha1.RegistryConfig {
		registries := slices.DeleteFunc(object.DeepCopy().Spec.CRIConfig.Containerd.Registries, func(registry extensionsv1alpha1.RegistryConfig) bool {
			return registry.Upstream == "docker.io"
		})
		Expect(registries).To(HaveLen(2))
		Expect(registries[1].Hosts).To(HaveLen(2))
		Expect(registries[1].Hosts[1].CACerts).To(HaveLen(1))
		registries[1].Hosts[1].CACerts = nil
		return registries
	}
	// withoutUnit returns the files without those of the unit that installs the hosts.toml of the cache.
	withoutUnit := func(object *extensionsv1alpha1.OperatingSystemConfig) []extensionsv1alpha1.File {
		return slices.DeleteFunc(slices.Clone(object.Spec.Files), func(file extensionsv1alpha1.File) bool {
			return slices.Contains(object.Spec.Units[0].FilePaths, file.Path)
		})
	}
	expectSameHosts := func(object *extensionsv1alpha1.OperatingSystemConfig) {
		GinkgoHelper()
		Expect(osctest.Hosts(object)).To(Equal(osctest.Hosts(left)))
		Expect(osctest.Installed(object)).To(HaveLen(1))
		Expect(osctest.Installed(object)).To(HaveKeyWithValue("docker.io", ContainSubstring(left.Spec.Files[0].Path)))
		Expect(mirrorsWithoutCA(object)).To(Equal(mirrorsWithoutCA(left)))
	}

	It("get the same registries when gardenlet writes them from scratch", func(ctx SpecContext) {
		written := left.DeepCopy()
		written.Spec.Files = nil
		written.Spec.CRIConfig.Containerd.Registries = nil
		mutate(ctx, written)

		expectSameHosts(written)
		files := withoutUnit(written)
		Expect(files).To(HaveLen(2))
		Expect(files[0]).To(Equal(left.Spec.Files[0]))
		Expect(files[1].Path).To(Equal(written.Spec.CRIConfig.Containerd.Registries[1].Hosts[1].CACerts[0]))
		Expect(files[1].Content).To(Equal(left.Spec.Files[1].Content))
	})

	It("keep their mirrors, but get no private key, from a Secret that only the other implementation accepts", func(ctx SpecContext) {
		secret := &corev1.Secret{}
		Expect(seed.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "ref-mirror-ca"}, secret)).To(Succeed())
		key := []byte("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n")
		secret.Immutable = nil
		secret.Data = map[string][]byte{"bundle.crt": slices.Concat(mirrorCA, key), "ca.key": key}
		Expect(seed.Update(ctx, secret)).To(Succeed())
		written := left.DeepCopy()
		written.Spec.Files = nil
		written.Spec.CRIConfig.Containerd.Registries = nil
		mutate(ctx, written)

		expectSameHosts(written)
		files := withoutUnit(written)
		Expect(files).To(HaveLen(2))
		Expect(files[1].Content).To(Equal(left.Spec.Files[1].Content))
	})

	It("are configured by an Extension that is still valid", func() {
		mirrors, err := takeover.MirrorConfig()
		Expect(err).NotTo(HaveOccurred())
		codec, err := mirrorcodec.New()
		Expect(err).NotTo(HaveOccurred())
		config, err := codec.DecodeConfigStrict(&runtime.RawExtension{Raw: mirrors})
		Expect(err).NotTo(HaveOccurred())
		Expect(validation.ValidateMirrorConfig(config, nil)).To(BeEmpty())
	})

	It("keep their registries when anything else is written before that", func(ctx SpecContext) {
		written := left.DeepCopy()
		mutate(ctx, written)
		expectSameHosts(written)
		files := withoutUnit(written)
		Expect(files).To(ContainElements(left.Spec.Files), "also the file to which nodes refer until then")
	})
})
