// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/status"
)

var _ = Describe("Repositories", func() {
	var (
		registry *prometheus.Registry
		m        *metrics.Metrics
	)

	BeforeEach(func() {
		registry = prometheus.NewRegistry()
		m = metrics.New(registry)
	})
	served := func(name string, bytes int64) {
		m.Record(event.Event{Repository: name, Outcome: event.Hit, Bytes: bytes})
	}
	exported := func() (names []string) {
		families, err := registry.Gather()
		Expect(err).NotTo(HaveOccurred())
		for _, family := range families {
			if family.GetName() != "registry_proxy_repository_pushed_bytes_total" {
				continue
			}
			for _, metric := range family.GetMetric() {
				names = append(names, metric.GetLabel()[0].GetValue())
			}
		}
		return names
	}

	It("count requests and fetches", func() {
		served("library/app", 100)
		served("library/app", 20)
		m.Repositories.Fetched("library/app", 60, 1500*time.Millisecond)
		Expect(testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP registry_proxy_repository_fetch_seconds_total Seconds that fetches from the upstream took by repository, for the ten repositories with the most bytes sent, the most bytes fetched, and the longest mean fetch time; absent while access to the cache is restricted.
# TYPE registry_proxy_repository_fetch_seconds_total counter
registry_proxy_repository_fetch_seconds_total{repository="library/app"} 1.5
# HELP registry_proxy_repository_fetches_total Objects fetched from the upstream by repository, for the ten repositories with the most bytes sent, the most bytes fetched, and the longest mean fetch time; absent while access to the cache is restricted.
# TYPE registry_proxy_repository_fetches_total counter
registry_proxy_repository_fetches_total{repository="library/app"} 1
# HELP registry_proxy_repository_pulled_bytes_total Bytes of content fetched from the upstream by repository, for the ten repositories with the most bytes sent, the most bytes fetched, and the longest mean fetch time; absent while access to the cache is restricted.
# TYPE registry_proxy_repository_pulled_bytes_total counter
registry_proxy_repository_pulled_bytes_total{repository="library/app"} 60
# HELP registry_proxy_repository_pushed_bytes_total Bytes of content sent to clients by repository, for the ten repositories with the most bytes sent, the most bytes fetched, and the longest mean fetch time; absent while access to the cache is restricted.
# TYPE registry_proxy_repository_pushed_bytes_total counter
registry_proxy_repository_pushed_bytes_total{repository="library/app"} 120
`), "registry_proxy_repository_fetch_seconds_total", "registry_proxy_repository_fetches_total",
			"registry_proxy_repository_pulled_bytes_total", "registry_proxy_repository_pushed_bytes_total")).To(Succeed())
		Expect(m.Repositories.Top()).To(Equal([]event.Repository{{
			Name: "library/app", Requests: 2, Fetches: 1, PushedBytes: 120, PulledBytes: 60, FetchSeconds: 1.5,
		}}))
	})

	It("export the ten at the top of each order", func() {
		for i := range 100 {
			served(fmt.Sprintf("sent/%03d", i), int64(1000+i))
			m.Repositories.Fetched(fmt.Sprintf("fetched/%03d", i), int64(1000+i), time.Millisecond)
			m.Repositories.Fetched(fmt.Sprintf("slow/%03d", i), 1, time.Duration(1+i)*time.Second)
		}
		for range 500 {
			m.Repositories.Fetched("often", 1, time.Second) // Long in sum, but not on average.
		}
		names := exported()
		Expect(names).To(HaveLen(30))
		Expect(names).To(ContainElements("sent/099", "sent/090", "fetched/099", "fetched/090", "slow/099", "slow/090"))
		m.Repositories.Fetched("sent/099", 1, time.Hour)
		Expect(exported()).To(HaveLen(29), "one of them is in two orders")
		top := m.Repositories.Top()
		Expect(slices.IsSortedFunc(top, func(a, b event.Repository) int { return int(b.PushedBytes - a.PushedBytes) })).To(BeTrue())
	})

	It("do not let clients displace what is served with what does not exist", func() {
		served("library/app", 100)
		for i := range 5000 {
			m.Record(event.Event{Repository: fmt.Sprintf("unknown/%d", i), Outcome: event.NotFound})
			m.Record(event.Event{Repository: fmt.Sprintf("unknown/%d", i), Outcome: event.Failed})
			m.Repositories.Fetched(fmt.Sprintf("unknown/%d", i), 0, time.Second)
		}
		Expect(exported()).To(ConsistOf("library/app"))
	})

	It("forget the repositories that were not used for longest", func() {
		served("first", 1<<40)
		served("second", 1<<40)
		for i := range 999 {
			served(fmt.Sprint(i), 1)
		}
		Expect(exported()).To(And(ContainElement("second"), Not(ContainElement("first"))))
	})

	It("export valid labels of a bounded length", func() {
		served("\xff\xfe", 1)
		m.Repositories.Fetched(strings.Repeat("é", 1000), 1, time.Second)
		for _, name := range exported() {
			Expect(len(name)).To(BeNumerically("<=", event.MaxRepository))
		}
		Expect(exported()).To(HaveLen(2))
	})
})

var _ = Describe("Failures", func() {
	It("are counted by their reason, and those without readers apart", func(ctx SpecContext) {
		m := metrics.New(prometheus.NewRegistry())
		m.FetchFailed(ctx, store.ErrMismatch)
		m.FetchFailed(ctx, errors.New("a disk"))
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		m.FetchFailed(canceled, store.ErrMismatch)
		for _, reason := range []string{"invalid", "internal", "canceled"} {
			Expect(testutil.ToFloat64(m.FillErrors.WithLabelValues(reason))).To(BeEquivalentTo(1), reason)
		}
	})

	It("to store are timed, those for lack of space apart", func() {
		registry := prometheus.NewRegistry()
		m := metrics.New(registry)
		Expect(names(registry)).To(ContainElements("registry_proxy_bypassed_at_seconds", "registry_proxy_store_failed_at_seconds"))
		Expect(m.BypassedAt()).To(BeZero())
		m.NotStored(fmt.Errorf("write: %w", unix.ENOSPC))
		Expect(m.BypassedAt()).To(BeTemporally("~", time.Now(), time.Minute))
		Expect(m.StoreFailedAt()).To(BeZero())
		m.NotStored(unix.EIO)
		Expect(m.StoreFailedAt()).To(BeTemporally("~", time.Now(), time.Minute))
		Expect(testutil.ToFloat64(m.Unstored)).To(BeEquivalentTo(1))
		Expect(testutil.ToFloat64(m.StoreErrors)).To(BeEquivalentTo(1))
	})

	It("are many if more than five happen within a quarter of an hour", func(ctx SpecContext) {
		m := metrics.New(prometheus.NewRegistry())
		for range 100 {
			m.FetchFailed(ctx, &remote.Error{Reason: remote.NotFound})
		}
		for range status.ManyFailures {
			m.FetchFailed(ctx, store.ErrMismatch)
		}
		Expect(m.Failing(time.Now())).To(BeFalse())
		m.FetchFailed(ctx, store.ErrMismatch)
		Expect(m.Failing(time.Now())).To(BeTrue())
		Expect(m.Failing(time.Now().Add(status.FailureWindow))).To(BeFalse())
		Expect(m.Failing(time.Now().Add(-time.Hour))).To(BeFalse(), "a clock that was set back")
	})
})
