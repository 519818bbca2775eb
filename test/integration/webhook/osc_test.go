// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
	"github.com/larder-project/larder/test/pki"
)

const caBundlePath = "/etc/containerd/certs.d/ca-bundle.pem"

var _ = Describe("OperatingSystemConfig webhook", func() {
	var (
		namespace *corev1.Namespace
		cluster   *extensionsv1alpha1.Cluster
		extension *extensionsv1alpha1.Extension
		osc       *extensionsv1alpha1.OperatingSystemConfig
	)

	BeforeEach(func() {
		namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			GenerateName: "shoot--dev--",
			Labels:       map[string]string{"extensions.gardener.cloud/registry-cache": "true"},
		}}
		Expect(testClient.Create(ctx, namespace)).To(Succeed())
		DeferCleanup(func() { Expect(testClient.Delete(ctx, namespace)).To(Succeed()) })

		cluster = &extensionsv1alpha1.Cluster{
			ObjectMeta: metav1.ObjectMeta{Name: namespace.Name},
			Spec: extensionsv1alpha1.ClusterSpec{
				CloudProfile: runtime.RawExtension{Raw: []byte("{}")},
				Seed:         &runtime.RawExtension{Raw: []byte("{}")},
				Shoot:        shootWith(false),
			},
		}
		Expect(testClient.Create(ctx, cluster)).To(Succeed())
		DeferCleanup(func() { Expect(testClient.Delete(ctx, cluster)).To(Succeed()) })

		caSecret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "ca-bundle"},
			Data:       map[string][]byte{"bundle.crt": []byte("certificates")},
		}
		Expect(testClient.Create(ctx, caSecret)).To(Succeed())

		extension = &extensionsv1alpha1.Extension{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "registry-cache"},
			Spec:       extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "registry-cache"}},
		}
		Expect(testClient.Create(ctx, extension)).To(Succeed())

		osc = &extensionsv1alpha1.OperatingSystemConfig{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "pool"},
			Spec: extensionsv1alpha1.OperatingSystemConfigSpec{
				DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "example-os"},
				Purpose:     extensionsv1alpha1.OperatingSystemConfigPurposeReconcile,
				CRIConfig: &extensionsv1alpha1.CRIConfig{
					Name:       extensionsv1alpha1.CRINameContainerD,
					Containerd: &extensionsv1alpha1.ContainerdConfig{SandboxImage: "registry.example.com/pause:1"},
				},
			},
		}
	})

	publish := func(caches ...registry.RegistryCacheStatus) {
		GinkgoHelper()
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		providerStatus, err := codec.EncodeStatus(&registry.RegistryStatus{CASecretName: new("ca-bundle"), Caches: caches})
		Expect(err).NotTo(HaveOccurred())
		extension.Status.ProviderStatus = providerStatus
		Expect(testClient.Status().Update(ctx, extension)).To(Succeed())
	}

	dockerAt := func(endpoint string) registry.RegistryCacheStatus {
		return registry.RegistryCacheStatus{Upstream: "docker.io", Endpoint: endpoint, RemoteURL: "https://registry-1.docker.io"}
	}

	It("adds registries and the CA to a new OperatingSystemConfig", func() {
		publish(dockerAt("https://10.4.0.10:5000"))

		Expect(testClient.Create(ctx, osc)).To(Succeed())

		Expect(osc.Spec.CRIConfig.Containerd.SandboxImage).To(Equal("registry.example.com/pause:1"))
		Expect(osc.Spec.CRIConfig.Containerd.Registries).To(BeEmpty())
		Expect(osctest.Hosts(osc)).To(Equal(map[string][]string{"docker.io": {"https://10.4.0.10:5000", "server https://registry-1.docker.io"}}))
		Expect(osctest.Installed(osc)).To(HaveKeyWithValue("docker.io", ContainSubstring(caBundlePath)))
		Expect(osc.Spec.Units).To(ConsistOf(HaveField("Name", "registry-cache-hosts.service")))
		Expect(osc.Spec.Files).To(ContainElement(extensionsv1alpha1.File{
			Path:        caBundlePath,
			Permissions: new(uint32(0o644)),
			Content: extensionsv1alpha1.FileContent{Inline: &extensionsv1alpha1.FileContentInline{
				Encoding: "b64", Data: base64.StdEncoding.EncodeToString([]byte("certificates")),
			}},
		}))
	})

	It("lets containerd present a client certificate to a cache only for nodes, and reports what prevents it", func() {
		authority, err := pki.NewAuthority("nodes")
		Expect(err).NotTo(HaveOccurred())
		pair, err := authority.Issue(pki.Request{CommonName: "registry-cache-node"})
		Expect(err).NotTo(HaveOccurred())
		Expect(testClient.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "registry-cache-node"},
			Data:       map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key},
		})).To(Succeed())
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		docker := dockerAt("https://10.4.0.10:5000")
		docker.AccessMode = registry.AccessNodes
		extension.Status.ProviderStatus, err = codec.EncodeStatus(&registry.RegistryStatus{
			CASecretName: new("ca-bundle"), NodeCertificateSecretName: new("registry-cache-node"), Caches: []registry.RegistryCacheStatus{docker},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(testClient.Status().Update(ctx, extension)).To(Succeed())

		Expect(testClient.Create(ctx, osc)).To(Succeed())
		const path = "/etc/containerd/registry-cache-client.pem"
		Expect(osctest.Installed(osc)).To(HaveKeyWithValue("docker.io", ContainSubstring(path)))
		Expect(osc.Spec.Files).To(ContainElement(And(HaveField("Path", path), HaveField("Permissions", HaveValue(BeEquivalentTo(0o600))))))

		patch := client.MergeFrom(osc.DeepCopy())
		osctest.Rewriter(osc)
		Expect(testClient.Patch(ctx, osc, patch)).To(Succeed())
		Expect(osctest.Installed(osc)).To(BeEmpty())
		Expect(osc.Annotations).To(HaveKeyWithValue(registry.SharedRegistriesAnnotation, ContainSubstring(`"docker.io":`)))
	})

	It("follows the status at once and removes everything when gardenlet rewrites the OperatingSystemConfig", func() {
		publish(dockerAt("https://10.4.0.10:5000"))
		Expect(testClient.Create(ctx, osc)).To(Succeed())

		By("an update of another client that changes only metadata")
		publish(dockerAt("https://10.4.0.20:5000"))
		patch := client.MergeFrom(osc.DeepCopy())
		osc.Annotations = map[string]string{"gardener.cloud/operation": "reconcile"}
		Expect(testClient.Patch(ctx, osc, patch)).To(Succeed())
		Expect(osctest.Hosts(osc)).To(Equal(map[string][]string{"docker.io": {"https://10.4.0.20:5000", "server https://registry-1.docker.io"}}))

		By("gardenlet's next reconciliation, after the cache was replaced by another one")
		publish(registry.RegistryCacheStatus{Upstream: "quay.io", Endpoint: "http://10.4.0.30:5000", RemoteURL: "https://quay.io"})
		patch = client.MergeFrom(osc.DeepCopy())
		osc.Spec.Files = nil
		osc.Spec.CRIConfig.Containerd.Registries = nil
		Expect(testClient.Patch(ctx, osc, patch)).To(Succeed())
		Expect(osctest.Hosts(osc)).To(Equal(map[string][]string{"quay.io": {"http://10.4.0.30:5000", "server https://quay.io"}}))
		Expect(osctest.Installed(osc)).To(HaveKeyWithValue("quay.io", Not(ContainSubstring("ca ="))))
		Expect(osc.Spec.Files).NotTo(ContainElement(HaveField("Path", caBundlePath)))
	})

	It("rejects a change that would remove the caches while the status is missing, and accepts a retry", func() {
		err := testClient.Create(ctx, osc.DeepCopy())
		Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(ContainSubstring("provider status of Extension " + namespace.Name + "/registry-cache")))

		publish(dockerAt("https://10.4.0.10:5000"))
		Expect(testClient.Create(ctx, osc)).To(Succeed())
		Expect(osctest.Installed(osc)).To(HaveLen(1))
	})

	It("changes only the configuration of running nodes", func() {
		expectUntouched := func() {
			GinkgoHelper()
			created := osc.DeepCopy()
			Expect(testClient.Create(ctx, created)).To(Succeed())
			Expect(created.Spec).To(Equal(osc.Spec))
			Expect(testClient.Delete(ctx, created)).To(Succeed())
		}
		publish(dockerAt("https://10.4.0.10:5000"))

		By("not for hibernated Shoots")
		cluster.Spec.Shoot = shootWith(true)
		Expect(testClient.Update(ctx, cluster)).To(Succeed())
		expectUntouched()

		By("not for the script that starts a node")
		cluster.Spec.Shoot = shootWith(false)
		Expect(testClient.Update(ctx, cluster)).To(Succeed())
		osc.Spec.Purpose = extensionsv1alpha1.OperatingSystemConfigPurposeProvision
		osc.Spec.CRIConfig.Containerd = nil
		expectUntouched()
	})

	Describe("for mirrors", func() {
		var bundles map[string][]byte

		BeforeEach(func() {
			bundles = map[string][]byte{}
			for _, name := range []string{"ca-v1", "ca-v2"} {
				authority, err := pki.NewAuthority(name)
				Expect(err).NotTo(HaveOccurred())
				bundles[name] = authority.Certificate
				Expect(testClient.Create(ctx, &corev1.Secret{
					ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "ref-" + name},
					Immutable:  new(true),
					Data:       map[string][]byte{"bundle.crt": authority.Certificate},
				})).To(Succeed())
			}
			label(namespace, "extensions.gardener.cloud/registry-mirror")
		})

		configure := func(config string) {
			GinkgoHelper()
			Expect(testClient.Create(ctx, &extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "registry-mirror"},
				Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{
					Type: "registry-mirror", ProviderConfig: &runtime.RawExtension{Raw: []byte(config)},
				}},
			})).To(Succeed())
		}
		reference := func(secret string) {
			GinkgoHelper()
			cluster.Spec.Shoot = shootWith(false, gardencorev1beta1.NamedResourceReference{
				Name: "mirror-ca", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: secret},
			})
			Expect(testClient.Update(ctx, cluster)).To(Succeed())
		}
		const quay = `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[{"upstream":"quay.io","hosts":[
			{"host":"https://first.example.com/cache","caBundleSecretReferenceName":"mirror-ca","overridePath":true},
			{"host":"http://[fd00::1]:5000","capabilities":["pull","resolve"]}]}]}`

		It("adds mirrors beside caches, and follows the rotation of a CA", func() {
			publish(dockerAt("https://10.4.0.10:5000"))
			configure(quay)
			reference("ca-v1")
			Expect(testClient.Create(ctx, osc)).To(Succeed())

			registries := osc.Spec.CRIConfig.Containerd.Registries
			Expect(registries).To(HaveLen(1))
			Expect(osctest.Installed(osc)).To(HaveKey("docker.io"))
			path := registries[0].Hosts[0].CACerts
			Expect(registries[0]).To(Equal(extensionsv1alpha1.RegistryConfig{
				Upstream: "quay.io",
				Server:   new("https://quay.io"),
				Hosts: []extensionsv1alpha1.RegistryHost{
					{URL: "https://first.example.com/cache", Capabilities: []extensionsv1alpha1.RegistryCapability{"pull"}, CACerts: path, OverridePath: new(true)},
					{URL: "http://[fd00::1]:5000", Capabilities: []extensionsv1alpha1.RegistryCapability{"pull", "resolve"}},
				},
			}))
			contents := func() map[string]string {
				contents := map[string]string{}
				for _, file := range osc.Spec.Files {
					if strings.HasPrefix(file.Path, "/etc/containerd/certs.d/registry-mirror-ca-") {
						contents[file.Path] = file.Content.Inline.Data
					}
				}
				return contents
			}
			Expect(contents()).To(And(HaveLen(1), HaveKeyWithValue(path[0], base64.StdEncoding.EncodeToString(bundles["ca-v1"]))))

			reference("ca-v2")
			patch := client.MergeFrom(osc.DeepCopy())
			osc.Annotations["gardener.cloud/operation"] = "reconcile"
			Expect(testClient.Patch(ctx, osc, patch)).To(Succeed())
			rotated := osc.Spec.CRIConfig.Containerd.Registries[0].Hosts[0].CACerts
			Expect(rotated).NotTo(Equal(path))
			Expect(contents()).To(And(HaveLen(1), HaveKeyWithValue(rotated[0], base64.StdEncoding.EncodeToString(bundles["ca-v2"]))))
		})

		It("refuses to let nodes lose their mirrors while a Secret is missing", func() {
			publish()
			configure(quay)
			reference("ca-v3")
			err := testClient.Create(ctx, osc.DeepCopy())
			Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ContainSubstring(`the Secret "ca-v3"`)))

			reference("ca-v1")
			Expect(testClient.Create(ctx, osc)).To(Succeed())
		})

		DescribeTable("has one result with other webhooks",
			func(labels ...string) {
				label(namespace, labels...)
				publish(dockerAt("http://10.4.0.10:5000"))
				configure(quay)
				reference("ca-v1")

				docker := []string{"http://10.4.0.10:5000", "server https://registry-1.docker.io"}
				mirrors := []string{"https://first.example.com/cache", "http://[fd00::1]:5000", "server https://quay.io"}
				expected := map[string][]string{"docker.io": docker, "quay.io": mirrors}
				if slices.Contains(labels, otherLabel(before, rewriter)) || slices.Contains(labels, otherLabel(after, rewriter)) {
					expected["docker.io"] = slices.Insert(docker, 1, osctest.RewriterURL)
				}
				if slices.ContainsFunc(labels, func(label string) bool { return strings.Contains(label, "peer") }) {
					for upstream := range expected {
						expected[upstream] = slices.Insert(expected[upstream], 0, osctest.PeerURL)
					}
					expected["_default"] = []string{osctest.PeerURL}
				}

				// The registration of the webhooks takes effect a moment after the namespace has its labels.
				Eventually(func(g Gomega) {
					created := osc.DeepCopy()
					g.Expect(testClient.Create(ctx, created, client.DryRunAll)).To(Succeed())
					g.Expect(osctest.Hosts(created)).To(Equal(expected))
				}).Should(Succeed())
				Expect(testClient.Create(ctx, osc)).To(Succeed())

				By("Call all webhooks again")
				spec := osc.Spec.DeepCopy()
				patch := client.MergeFrom(osc.DeepCopy())
				osc.Annotations["gardener.cloud/operation"] = "reconcile"
				Expect(testClient.Patch(ctx, osc, patch)).To(Succeed())
				Expect(&osc.Spec).To(Equal(spec))
			},
			Entry("none"),
			Entry("peer-to-peer before", otherLabel(before, peerToPeer)),
			Entry("peer-to-peer after", otherLabel(after, peerToPeer)),
			Entry("peer-to-peer for all upstreams before", otherLabel(before, peerForAll)),
			Entry("peer-to-peer for all upstreams after", otherLabel(after, peerForAll)),
			Entry("rewriter before", otherLabel(before, rewriter)),
			Entry("rewriter after", otherLabel(after, rewriter)),
			Entry("both before", otherLabel(before, peerToPeer), otherLabel(before, rewriter)),
			Entry("both after", otherLabel(after, peerToPeer), otherLabel(after, rewriter)),
			Entry("rewriter and peer-to-peer for all upstreams after", otherLabel(after, peerForAll), otherLabel(after, rewriter)),
			Entry("rewriter before, peer-to-peer after", otherLabel(before, rewriter), otherLabel(after, peerToPeer)),
		)
	})

	It("is not called for Shoots without the extension", func() {
		patch := client.MergeFrom(namespace.DeepCopy())
		namespace.Labels = nil
		Expect(testClient.Patch(ctx, namespace, patch)).To(Succeed())

		Eventually(func(g Gomega) {
			created := osc.DeepCopy()
			g.Expect(testClient.Create(ctx, created, client.DryRunAll)).To(Succeed())
			g.Expect(created.Spec.CRIConfig.Containerd.Registries).To(BeEmpty())
		}).Should(Succeed())
	})
})

func shootWith(hibernated bool, resources ...gardencorev1beta1.NamedResourceReference) runtime.RawExtension {
	GinkgoHelper()
	shoot := &gardencorev1beta1.Shoot{
		TypeMeta: metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
		Spec:     gardencorev1beta1.ShootSpec{Hibernation: &gardencorev1beta1.Hibernation{Enabled: &hibernated}, Resources: resources},
	}
	data, err := json.Marshal(shoot)
	Expect(err).NotTo(HaveOccurred())
	return runtime.RawExtension{Raw: data}
}

// label adds labels to a namespace, which select the webhooks that are called in it.
func label(namespace *corev1.Namespace, labels ...string) {
	GinkgoHelper()
	patch := client.MergeFrom(namespace.DeepCopy())
	for _, label := range labels {
		metav1.SetMetaDataLabel(&namespace.ObjectMeta, label, "true")
	}
	Expect(testClient.Patch(ctx, namespace, patch)).To(Succeed())
}
