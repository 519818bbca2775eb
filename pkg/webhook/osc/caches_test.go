// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/apis/registry"
)

var (
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

var _ = Describe("configForCaches", func() {
	DescribeTable("configures nodes",
		func(golden string, status *registry.RegistryStatus, caBundle []byte, prepare func(*extensionsv1alpha1.OperatingSystemConfigSpec)) {
			osc := bareOSC()
			prepare(&osc.Spec)
			config, err := configForCaches(status, caBundle)
			Expect(err).NotTo(HaveOccurred())
			expectNodeConfig(golden, config, osc)
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
					entryFor("docker.io", "https://10.4.0.99:5000", caBundlePath),
					entryFor("ghcr.io", "https://mirror.example.com"),
					entryFor("private.example.com:5443", "http://10.4.0.98:5000"),
					entryFor("gone.example.com", "https://10.4.0.97:5000", caBundlePath),
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
		one, err := configForCaches(statusOf(dockerTLS, privateTLS, internalPlain), testCABundle)
		Expect(err).NotTo(HaveOccurred())
		other, err := configForCaches(statusOf(internalPlain, privateTLS, dockerTLS), testCABundle)
		Expect(err).NotTo(HaveOccurred())
		Expect(one.registries).To(Equal(other.registries))
		Expect(one.files).To(Equal(other.files))
	})

	DescribeTable("refuses an unusable status",
		func(status *registry.RegistryStatus, caBundle []byte, message string) {
			_, err := configForCaches(status, caBundle)
			Expect(err).To(MatchError(ContainSubstring(message)))
		},
		Entry("TLS without a CA", statusOf(dockerTLS), nil, "docker.io serves TLS"),
		Entry("no endpoint", statusOf(registry.RegistryCacheStatus{Upstream: "docker.io"}), testCABundle, "docker.io is not a URL"),
		Entry("an invalid endpoint", statusOf(registry.RegistryCacheStatus{Upstream: "docker.io", Endpoint: "https://[fd00::1:5000"}), testCABundle, "docker.io is not a URL"),
	)
})
