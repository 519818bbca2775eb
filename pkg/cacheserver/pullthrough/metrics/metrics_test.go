// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
)

func names(gatherer prometheus.Gatherer) (names []string) {
	families, err := gatherer.Gather()
	Expect(err).NotTo(HaveOccurred())
	for _, family := range families {
		names = append(names, family.GetName())
	}
	return names
}

var _ = Describe("Metrics", func() {
	It("replaces the metrics of Distribution's proxy in the same registry", func() {
		m := metrics.Process()
		Expect(metrics.Process()).To(BeIdenticalTo(m))
		m.Hits.WithLabelValues(metrics.Blob).Inc()
		Expect(names(prometheus.DefaultGatherer)).To(ContainElements(
			"registry_proxy_requests_total", "registry_proxy_hits_total", "registry_proxy_misses_total",
			"registry_proxy_pulled_bytes_total", "registry_proxy_pushed_bytes_total",
		))
		families, err := prometheus.DefaultGatherer.Gather()
		Expect(err).NotTo(HaveOccurred())
		for _, family := range families {
			if family.GetName() == "registry_proxy_hits_total" {
				Expect(family.GetMetric()).To(HaveLen(2))
				Expect(family.GetMetric()[0].GetCounter().GetValue()).To(BeEquivalentTo(1))
			}
		}
	})

	It("counts the requests to an upstream, its health and its limits", func() {
		registry := prometheus.NewRegistry()
		m := metrics.New(registry)
		u := m.Upstream("example.com")
		u.Request("manifest", 200, time.Millisecond)
		u.Health(false)
		u.Budget("", 100, 7)
		u.Budget("team", 200, 5)
		Expect(testutil.ToFloat64(m.RateLimitLeft.WithLabelValues("example.com", ""))).To(BeEquivalentTo(7))
		Expect(testutil.ToFloat64(m.RateLimitLeft.WithLabelValues("example.com", "team"))).To(BeEquivalentTo(5))
		Expect(strings.Join(names(registry), " ")).To(And(
			ContainSubstring("registry_proxy_upstream_requests_total"),
			ContainSubstring("registry_proxy_upstream_up"),
			ContainSubstring("registry_proxy_upstream_rate_limit_remaining"),
		))
	})

	It("can be registered by two engines", func() {
		registry := prometheus.NewRegistry()
		metrics.New(registry).Hits.WithLabelValues(metrics.Blob).Inc()
		metrics.New(registry).Hits.WithLabelValues(metrics.Blob).Inc()
		families, err := registry.Gather()
		Expect(err).NotTo(HaveOccurred())
		for _, family := range families {
			if family.GetName() == "registry_proxy_hits_total" {
				Expect(family.GetMetric()[0].GetCounter().GetValue()).To(BeEquivalentTo(2))
			}
		}
	})
})
