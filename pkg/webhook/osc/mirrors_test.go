// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"strings"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/apis/mirror"
)

var (
	pull         = []mirror.Capability{mirror.Pull}
	pullResolve  = []mirror.Capability{mirror.Pull, mirror.Resolve}
	testCABundle = []byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
	nextCABundle = []byte("-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n")
	caBundles    = map[string][]byte{"ca": testCABundle, "next": nextCABundle, "same": testCABundle}

	dockerMirror = mirror.Mirror{Upstream: "docker.io", Hosts: []mirror.Host{
		{Host: "https://first.example.com", Capabilities: pullResolve},
		{Host: "http://second.example.com:5000", Capabilities: pull},
	}}
	privateMirror = mirror.Mirror{Upstream: "private.example.com:5443", Hosts: []mirror.Host{
		{Host: "https://harbor.example.com/v2/private", Capabilities: pull, OverridePath: new(true), CABundleSecretReferenceName: new("ca")},
		{Host: "https://[fd00::1]:5443/cache", Capabilities: pull, OverridePath: new(false), CABundleSecretReferenceName: new("next")},
	}}
)

func mirrorsOf(mirrors ...mirror.Mirror) *mirror.MirrorConfig {
	return &mirror.MirrorConfig{Mirrors: mirrors}
}

var _ = Describe("configForMirrors", func() {
	DescribeTable("configures nodes",
		func(golden string, mirrors *mirror.MirrorConfig, prepare func(*extensionsv1alpha1.OperatingSystemConfigSpec)) {
			osc := bareOSC()
			prepare(&osc.Spec)
			config, err := configForMirrors(mirrors, caBundles)
			Expect(err).NotTo(HaveOccurred())
			expectNodeConfig(golden, config, osc)
		},
		Entry("several hosts in order, private CAs, paths, IPv6", "mirrors", mirrorsOf(privateMirror, dockerMirror),
			func(*extensionsv1alpha1.OperatingSystemConfigSpec) {}),
		Entry("existing entries and files", "mirrors-existing", mirrorsOf(privateMirror),
			func(spec *extensionsv1alpha1.OperatingSystemConfigSpec) {
				spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{
					entryFor("quay.io", "https://mirror.example.com"),
					entryFor("private.example.com:5443", "https://[fd00::1]:5443/cache"),
					entryFor("docker.io", "https://stale.example.com", mirrorCAPath([]byte("stale"))),
				}
				spec.Files = []extensionsv1alpha1.File{
					fileWith("/etc/first", "first"), fileWith(mirrorCAPath([]byte("stale")), "stale"),
					fileWith(mirrorCAPath(testCABundle), "old"), fileWith("/etc/last", "last"),
				}
			}),
	)

	It("shares the file of a CA bundle, whatever references it", func() {
		config, err := configForMirrors(mirrorsOf(
			mirror.Mirror{Upstream: "a-1.example.com", Hosts: []mirror.Host{{Host: "https://m:1", CABundleSecretReferenceName: new("ca")}}},
			mirror.Mirror{Upstream: "b.example.com", Hosts: []mirror.Host{{Host: "https://m-1", CABundleSecretReferenceName: new("same")}}},
		), caBundles)
		Expect(err).NotTo(HaveOccurred())
		Expect(config.files).To(HaveLen(1))
		Expect(config.registries[0].Hosts[0].CACerts).To(Equal(config.registries[1].Hosts[0].CACerts))
	})

	DescribeTable("gives CA bundles different files",
		func(upstreamA, hostA, upstreamB, hostB string) {
			config, err := configForMirrors(mirrorsOf(
				mirror.Mirror{Upstream: upstreamA, Hosts: []mirror.Host{{Host: hostA, CABundleSecretReferenceName: new("ca")}}},
				mirror.Mirror{Upstream: upstreamB, Hosts: []mirror.Host{{Host: hostB, CABundleSecretReferenceName: new("next")}}},
			), caBundles)
			Expect(err).NotTo(HaveOccurred())
			Expect(config.files).To(HaveLen(2))
			Expect(config.registries[0].Hosts[0].CACerts).NotTo(Equal(config.registries[1].Hosts[0].CACerts))
		},
		Entry("upstreams that differ in punctuation", "a.example.com:1", "https://m", "a.example.com-1", "https://m"),
		Entry("hosts that differ in punctuation", "a.example.com", "https://m:1", "b.example.com", "https://m-1"),
		Entry("hosts that differ in their paths", "a.example.com", "https://m/a", "b.example.com", "https://m/b"),
		Entry("hosts that differ in their schemes", "a.example.com", "https://m", "b.example.com", "http://m"),
		Entry("hosts that differ in case", "a.example.com", "https://m/A", "b.example.com", "https://m/a"),
	)

	It("replaces the file of a rotated CA bundle by one with another name", func() {
		rotated := func(entry string) nodeConfig {
			config, err := configForMirrors(mirrorsOf(mirror.Mirror{Upstream: "docker.io", Hosts: []mirror.Host{
				{Host: "https://first.example.com", Capabilities: pull, CABundleSecretReferenceName: new(entry)},
			}}), caBundles)
			Expect(err).NotTo(HaveOccurred())
			return config
		}
		osc := bareOSC()
		Expect(rotated("ca").addTo(osc)).To(Succeed())
		Expect(rotated("next").addTo(osc)).To(Succeed())

		Expect(osc.Spec.CRIConfig.Containerd.Registries).To(HaveLen(1))
		Expect(osc.Spec.CRIConfig.Containerd.Registries[0].Hosts).To(HaveLen(1))
		Expect(osc.Spec.CRIConfig.Containerd.Registries[0].Hosts[0].CACerts).To(ConsistOf(mirrorCAPath(nextCABundle)))
		Expect(osc.Spec.Files).To(HaveLen(3))
		Expect(osc.Spec.Files).To(ContainElement(HaveField("Path", mirrorCAPath(nextCABundle))))
	})

	It("records hosts in an annotation that stays far below the limit of all annotations", func() {
		var mirrors []mirror.Mirror
		for i := range 150 {
			m := mirror.Mirror{Upstream: strings.Repeat("a", 200) + ".example.com:" + string(rune('0'+i%10)) + strings.Repeat("0", i/10)}
			for j := range 10 {
				m.Hosts = append(m.Hosts, mirror.Host{Host: "https://" + strings.Repeat("b", 2000) + string(rune('0'+j)), Capabilities: pull})
			}
			mirrors = append(mirrors, m)
		}
		config, err := configForMirrors(mirrorsOf(mirrors...), nil)
		Expect(err).NotTo(HaveOccurred())
		osc := bareOSC()
		Expect(config.addTo(osc)).To(Succeed())
		Expect(len(osc.Annotations[config.annotation])).To(BeNumerically("<", 128<<10))
	})

	DescribeTable("refuses what containerd could not parse", func(host string) {
		_, err := configForMirrors(mirrorsOf(mirror.Mirror{Upstream: "docker.io", Hosts: []mirror.Host{{Host: host}}}), nil)
		Expect(err).To(MatchError(ContainSubstring("mirror for docker.io is not a URL")))
	},
		Entry("an unclosed bracket", "https://[fd00::1"),
		Entry("no host", "https://"),
		Entry("no scheme", "mirror.example.com"),
	)
})
