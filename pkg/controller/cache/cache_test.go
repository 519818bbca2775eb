// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"net"
	"time"

	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
)

var _ = Describe("Decisions", func() {
	newCache := func(upstream string, tls bool) deployment {
		return deployment{Values: component.Values{Cache: registry.RegistryCache{
			Upstream: upstream,
			HTTP:     &registry.HTTP{TLS: new(tls)},
		}}}
	}

	DescribeTable("endpoint", func(tls bool, address, expected string) {
		Expect(endpoint(newCache("docker.io", tls), net.ParseIP(address))).To(Equal(expected))
	},
		Entry("HTTPS", true, "10.0.0.1", "https://10.0.0.1:5000"),
		Entry("HTTP", false, "10.0.0.1", "http://10.0.0.1:5000"),
		Entry("IPv6", true, "fd00::1", "https://[fd00::1]:5000"),
	)

	Describe("certificates", func() {
		It("are for the Services of caches that serve TLS", func() {
			quay := newCache("quay.io", true)
			quay.Cache.ServiceNameSuffix = new("red")
			servers := serverCertificates(
				[]deployment{newCache("docker.io", false), quay},
				map[string]net.IP{"registry-docker-io": net.ParseIP("10.0.0.1"), "registry-red": net.ParseIP("10.0.0.2")},
			)
			Expect(servers).To(HaveLen(1))
			server := servers[0]
			Expect(server.Name).To(Equal("registry-quay-io-tls"))
			Expect(server.CertType).To(Equal(secretsutils.ServerCert))
			Expect(server.Validity).To(HaveValue(Equal(90 * 24 * time.Hour)))
			Expect(server.DNSNames).To(ContainElements("registry-red.kube-system.svc", "registry-red.kube-system.svc.cluster.local"))
			Expect(server.IPAddresses).To(ConsistOf(WithTransform(net.IP.String, Equal("10.0.0.2"))))
		})
	})

	DescribeTable("outgrown", func(template, size string, expected bool) {
		statefulSet := &appsv1.StatefulSet{}
		for _, name := range []string{"other", component.VolumeClaimTemplate} {
			claim := corev1.PersistentVolumeClaim{}
			claim.Name = name
			claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(template)}
			statefulSet.Spec.VolumeClaimTemplates = append(statefulSet.Spec.VolumeClaimTemplates, claim)
		}
		Expect(outgrown(statefulSet, resource.MustParse(size))).To(Equal(expected))
	},
		Entry("the same size", "10Gi", "10Gi", false),
		Entry("the same size in other words", "1Gi", "1024Mi", false),
		Entry("more", "10Gi", "20Gi", true),
		Entry("less, since the volume was expanded manually", "20Gi", "10Gi", false),
	)
})
