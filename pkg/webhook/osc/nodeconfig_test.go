// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"os"
	"path/filepath"

	"github.com/gardener/gardener/pkg/api/extensions/validation"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/apis/registry"
)

var (
	testCABundle = []byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")

	dockerTLS = registry.RegistryCacheStatus{
		Upstream: "docker.io", Endpoint: "https://10.4.0.10:5000", RemoteURL: "https://registry-1.docker.io",
	}
	dockerPlain = registry.RegistryCacheStatus{
		Upstream: "docker.io", Endpoint: "http://10.4.0.10:5000", RemoteURL: "https://registry-1.docker.io",
	}
	privateTLS = registry.RegistryCacheStatus{
		Upstream: "private.example.com:5443", Endpoint: "https://[fd00:4::2]:5000", RemoteURL: "https://private.example.com:5443",
	}
	internalPlain = registry.RegistryCacheStatus{
		Upstream: "internal.example.com", Endpoint: "http://10.4.0.11:5000", RemoteURL: "http://internal.example.com:8080",
	}
)

func statusOf(caches ...registry.RegistryCacheStatus) *registry.RegistryStatus {
	return &registry.RegistryStatus{CASecretName: new("ca-extension-registry-cache-bundle"), Caches: caches}
}

// bareSpec returns the spec that gardenlet writes, without registries and without our file.
func bareSpec() extensionsv1alpha1.OperatingSystemConfigSpec {
	return extensionsv1alpha1.OperatingSystemConfigSpec{
		DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "example-os"},
		Purpose:     extensionsv1alpha1.OperatingSystemConfigPurposeReconcile,
		CRIConfig: &extensionsv1alpha1.CRIConfig{
			Name:       extensionsv1alpha1.CRINameContainerD,
			Containerd: &extensionsv1alpha1.ContainerdConfig{SandboxImage: "registry.example.com/pause:1"},
		},
		Files: []extensionsv1alpha1.File{fileWith("/etc/first", "first"), fileWith("/etc/last", "last")},
	}
}

func fileWith(path, content string) extensionsv1alpha1.File {
	return extensionsv1alpha1.File{
		Path:    path,
		Content: extensionsv1alpha1.FileContent{Inline: &extensionsv1alpha1.FileContentInline{Data: content}},
	}
}

func entryFor(upstream, endpoint string) extensionsv1alpha1.RegistryConfig {
	return extensionsv1alpha1.RegistryConfig{
		Upstream: upstream,
		Hosts:    []extensionsv1alpha1.RegistryHost{{URL: endpoint}},
	}
}

func expectGolden(name string, actual any) {
	GinkgoHelper()
	data, err := yaml.Marshal(actual)
	Expect(err).NotTo(HaveOccurred())
	file := filepath.Join("testdata", name+".yaml")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		Expect(os.WriteFile(file, data, 0o600)).To(Succeed())
	}
	golden, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred(), "run the test with UPDATE_GOLDEN=1 to write it")
	Expect(string(data)).To(Equal(string(golden)))
}

var _ = Describe("newNodeConfig", func() {
	DescribeTable("configures nodes",
		func(golden string, status *registry.RegistryStatus, caBundle []byte, prepare func(*extensionsv1alpha1.OperatingSystemConfigSpec)) {
			spec := bareSpec()
			prepare(&spec)

			config, err := newNodeConfig(status, caBundle)
			Expect(err).NotTo(HaveOccurred())
			config.addTo(&spec)
			expectGolden(golden, spec)

			By("passing Gardener's validation")
			Expect(validation.ValidateOperatingSystemConfig(&extensionsv1alpha1.OperatingSystemConfig{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shoot--dev--example", Name: "pool"},
				Spec:       spec,
			})).To(BeEmpty())

			By("being idempotent")
			again := spec.DeepCopy()
			config.addTo(again)
			Expect(*again).To(Equal(spec))
		},
		Entry("one cache with TLS", "one-tls", statusOf(dockerTLS), testCABundle,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
		Entry("one cache without TLS", "one-plain", &registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{dockerPlain}}, nil,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
		Entry("several caches, IPv6, with and without TLS, sorted", "several", statusOf(privateTLS, internalPlain, dockerTLS), testCABundle,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
		Entry("existing entries", "existing-entries", statusOf(dockerTLS, privateTLS), testCABundle,
			func(spec *extensionsv1alpha1.OperatingSystemConfigSpec) {
				spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{
					entryFor("quay.io", "https://mirror.example.com"),
					entryFor("docker.io", "http://10.4.0.99:5000"),
					entryFor("ghcr.io", "https://mirror.example.com"),
					entryFor("docker.io", "http://10.4.0.98:5000"),
					entryFor("aaa.example.com", "https://mirror.example.com"),
				}
			}),
		Entry("an existing CA bundle", "existing-file", statusOf(dockerTLS), testCABundle,
			func(spec *extensionsv1alpha1.OperatingSystemConfigSpec) {
				spec.Files = []extensionsv1alpha1.File{
					fileWith("/etc/first", "first"), fileWith(caBundlePath, "old"), fileWith("/etc/last", "last"),
				}
			}),
		Entry("no cache", "none", &registry.RegistryStatus{}, nil,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
	)

	It("does not depend on the order of the status", func() {
		one, err := newNodeConfig(statusOf(dockerTLS, privateTLS, internalPlain), testCABundle)
		Expect(err).NotTo(HaveOccurred())
		other, err := newNodeConfig(statusOf(internalPlain, privateTLS, dockerTLS), testCABundle)
		Expect(err).NotTo(HaveOccurred())
		Expect(one).To(Equal(other))
	})

	DescribeTable("refuses an unusable status",
		func(status *registry.RegistryStatus, caBundle []byte, message string) {
			_, err := newNodeConfig(status, caBundle)
			Expect(err).To(MatchError(ContainSubstring(message)))
		},
		Entry("TLS without a CA", statusOf(dockerTLS), nil, "docker.io serves TLS"),
		Entry("no endpoint", statusOf(registry.RegistryCacheStatus{Upstream: "docker.io"}), testCABundle, "docker.io is not a URL"),
		Entry("an invalid endpoint", statusOf(registry.RegistryCacheStatus{Upstream: "docker.io", Endpoint: "https://[fd00::1:5000"}), testCABundle, "docker.io is not a URL"),
	)
})
