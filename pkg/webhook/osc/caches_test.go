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

var (
	dockerNodes = registry.RegistryCacheStatus{
		Upstream: "docker.io", Endpoint: "https://10.4.0.10:5000", RemoteURL: "https://registry-1.docker.io", AccessMode: registry.AccessNodes,
	}
	testClient = []byte("certificate and key")
)

func onlyForNodes(status *registry.RegistryStatus) *registry.RegistryStatus {
	status.NodeCertificateSecretName = new("registry-cache-node")
	return status
}

func statusOf(caches ...registry.RegistryCacheStatus) *registry.RegistryStatus {
	return &registry.RegistryStatus{CASecretName: new("ca-extension-registry-cache-bundle"), Caches: caches}
}

var _ = Describe("configForCaches", func() {
	DescribeTable("configures nodes",
		func(golden string, status *registry.RegistryStatus, caBundle []byte, client []byte, prepare func(*extensionsv1alpha1.OperatingSystemConfigSpec)) {
			osc := bareOSC()
			prepare(&osc.Spec)
			config, err := configForCaches(status, caBundle, client)
			Expect(err).NotTo(HaveOccurred())
			expectNodeConfig(golden, config, osc)
		},
		Entry("one cache with TLS", "one-tls", statusOf(dockerTLS), testCABundle, nil,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
		Entry("one cache without TLS", "one-plain", &registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{dockerPlain}}, nil, nil,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
		Entry("several caches, IPv6, with and without TLS, sorted", "several", statusOf(privateTLS, internalPlain, dockerTLS), testCABundle, nil,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
		Entry("existing entries", "existing-entries", statusOf(dockerTLS, privateTLS), testCABundle, nil,
			func(spec *extensionsv1alpha1.OperatingSystemConfigSpec) {
				spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{
					entryFor("quay.io", "https://mirror.example.com"),
					entryFor("docker.io", "https://10.4.0.99:5000", caBundlePath),
					entryFor("ghcr.io", "https://mirror.example.com"),
					entryFor("private.example.com:5443", "http://10.4.0.98:5000"),
					entryFor("gone.example.com", "https://10.4.0.97:5000", caBundlePath),
				}
			}),
		Entry("an existing CA bundle", "existing-file", statusOf(dockerTLS), testCABundle, nil,
			func(spec *extensionsv1alpha1.OperatingSystemConfigSpec) {
				spec.Files = []extensionsv1alpha1.File{
					fileWith("/etc/first", "first"), fileWith(caBundlePath, "old"), fileWith("/etc/last", "last"),
				}
			}),
		Entry("caches only for nodes, beside others", "only-nodes", onlyForNodes(statusOf(dockerNodes, privateTLS)), testCABundle, testClient,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
		Entry("no cache", "none", &registry.RegistryStatus{}, nil, nil,
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
	)

	DescribeTable("gives a lost packet time if nodes may not pull from the upstream what the cache serves",
		func(change func(*registry.RegistryCacheStatus), timeout string) {
			cache := dockerTLS
			change(&cache)
			config, err := configForCaches(statusOf(cache), testCABundle, nil)
			Expect(err).NotTo(HaveOccurred())
			Expect(config.connections["docker.io"].dialTimeout).To(Equal(timeout))
		},
		Entry("no credential", func(*registry.RegistryCacheStatus) {}, "200ms"),
		Entry("a credential", func(cache *registry.RegistryCacheStatus) { cache.Credentials = &registry.CredentialsStatus{} }, "1200ms"),
		Entry("a credential for some repositories", func(cache *registry.RegistryCacheStatus) {
			cache.RepositoryCredentials = []registry.RepositoryCredentialStatus{{}}
		}, "1200ms"),
		Entry("a credential that opens nothing", func(cache *registry.RegistryCacheStatus) {
			cache.Credentials, cache.AccessMode = &registry.CredentialsStatus{}, registry.AccessPullSecrets
		}, "200ms"),
	)

	It("presents no client certificate without TLS", func() {
		config, err := configForCaches(onlyForNodes(statusOf(internalPlain)), nil, testClient)
		Expect(err).NotTo(HaveOccurred())
		Expect(config.connections["internal.example.com"].client).To(BeEmpty())
		Expect(config.files).To(BeEmpty())
	})

	It("does not depend on the order of the status", func() {
		one, err := configForCaches(statusOf(dockerTLS, privateTLS, internalPlain), testCABundle, nil)
		Expect(err).NotTo(HaveOccurred())
		other, err := configForCaches(statusOf(internalPlain, privateTLS, dockerTLS), testCABundle, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(one.registries).To(Equal(other.registries))
		Expect(one.files).To(Equal(other.files))
	})

	DescribeTable("refuses an unusable status",
		func(status *registry.RegistryStatus, caBundle []byte, message string) {
			_, err := configForCaches(status, caBundle, nil)
			Expect(err).To(MatchError(ContainSubstring(message)))
		},
		Entry("TLS without a CA", statusOf(dockerTLS), nil, "docker.io serves TLS"),
		Entry("only for nodes without a client certificate", statusOf(dockerNodes), testCABundle, "docker.io is only for nodes"),
		Entry("no endpoint", statusOf(registry.RegistryCacheStatus{Upstream: "docker.io"}), testCABundle, "docker.io is not a URL"),
		Entry("an invalid endpoint", statusOf(registry.RegistryCacheStatus{Upstream: "docker.io", Endpoint: "https://[fd00::1:5000"}), testCABundle, "docker.io is not a URL"),
	)
})
