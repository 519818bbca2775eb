// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
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

	It("names no repositories whose readers may not be allowed to know them", func() {
		registry := prometheus.NewRegistry()
		m := metrics.New(registry)
		u := m.Upstream("example.com").WithLabels(map[string]string{"": "", "team": "1"})
		u.Budget("", 100, 7)
		u.Budget("team", 200, 5)
		u.Credential("team", metrics.Credential{Rejected: true, Expiry: time.Unix(9, 0)})
		Expect(testutil.ToFloat64(m.RateLimitLeft.WithLabelValues("example.com", ""))).To(BeEquivalentTo(7))
		Expect(testutil.ToFloat64(m.RateLimitLeft.WithLabelValues("example.com", "1"))).To(BeEquivalentTo(5))
		Expect(testutil.ToFloat64(m.Rejected.WithLabelValues("example.com", "1"))).To(BeEquivalentTo(1))
		families, err := registry.Gather()
		Expect(err).NotTo(HaveOccurred())
		Expect(fmt.Sprint(families)).NotTo(ContainSubstring("team"))

		u.BudgetExpired("team")
		Expect(testutil.CollectAndCount(m.RateLimitLeft)).To(Equal(1))
	})

	It("has a bounded number of labels for statuses, which the upstream chooses", func() {
		m := metrics.New(prometheus.NewRegistry())
		observer := m.Upstream("example.com")
		for status := range 1000 {
			observer.Request("manifest", status, time.Millisecond)
		}
		Expect(testutil.CollectAndCount(m.UpstreamRequests)).To(BeNumerically("<", 30))
		for code, count := range map[string]int{"0": 1, "200": 1, "429": 1, "503": 1, "2xx": 98, "5xx": 95, "other": 499} {
			Expect(testutil.ToFloat64(m.UpstreamRequests.WithLabelValues("example.com", "manifest", code))).To(BeEquivalentTo(count), code)
		}
	})

	It("counts requests for content by their outcome", func() {
		m := metrics.New(prometheus.NewRegistry())
		Expect(testutil.CollectAndCount(m.Outcomes)).To(Equal(20), "a series that appears with its first value has no increase")
		m.Record(event.Event{Kind: metrics.Blob, Outcome: event.Joined})
		m.Record(event.Event{Kind: "tags", Outcome: event.Joined})
		Expect(testutil.ToFloat64(m.Outcomes.WithLabelValues(metrics.Blob, "joined"))).To(BeEquivalentTo(1))
		Expect(testutil.CollectAndCount(m.Outcomes)).To(Equal(20))
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
