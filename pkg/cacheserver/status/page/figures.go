// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/status"
)

// figures are the numbers of the page, since the start of the process. A metric that does not exist is 0.
type figures struct {
	started time.Time // zero if unknown

	// served are the requests for content that were served, cached those that were served from the cache.
	served, cached, joined           float64
	pushedBytes, savedBytes          float64
	fetchErrors, staleTags           float64
	corrupt                          float64
	upstreamRequests, upstreamErrors float64
	latencyMedian, latencyP95        time.Duration // 0 without requests
	activeTransfers                  float64
	evictedBytes                     float64
	// These are about the credential for all repositories without one of their own.
	credentialActiveSince  time.Time // zero if the upstream has not accepted it
	credentialPendingSince time.Time // zero without a candidate
	credentialRejected     bool
}

// gather reads the metrics of a cache of an upstream.
func gather(from prometheus.Gatherer, upstream string) (figures, error) {
	gathered, err := from.Gather()
	if err != nil {
		return figures{}, fmt.Errorf("gather metrics: %w", err)
	}
	f := families{upstream: upstream, byName: make(map[string][]*dto.Metric, len(gathered))}
	for _, family := range gathered {
		f.byName[family.GetName()] = family.GetMetric()
	}
	latency := f.histogram("registry_proxy_upstream_request_duration_seconds")
	return figures{
		started:                unix(f.sum("process_start_time_seconds")),
		served:                 f.sumWhere("registry_proxy_outcomes_total", "outcome", status.IsServed),
		cached:                 f.sumWhere("registry_proxy_outcomes_total", "outcome", status.IsFromCache),
		joined:                 f.sumWhere("registry_proxy_outcomes_total", "outcome", is(string(event.Joined))),
		pushedBytes:            f.sum("registry_proxy_pushed_bytes_total"),
		savedBytes:             f.sum("registry_proxy_saved_bytes_total"),
		fetchErrors:            f.sumWhere("registry_proxy_fill_errors_total", "reason", isFailure),
		staleTags:              f.sum("registry_proxy_stale_tags_total"),
		corrupt:                f.sum("registry_proxy_corrupt_total"),
		upstreamRequests:       f.sum("registry_proxy_upstream_requests_total"),
		upstreamErrors:         f.sumWhere("registry_proxy_upstream_requests_total", "code", isError),
		latencyMedian:          latency.quantile(0.5),
		latencyP95:             latency.quantile(0.95),
		activeTransfers:        f.sum("registry_proxy_active_transfers"),
		evictedBytes:           f.sumWhere("registry_proxy_removed_bytes_total", "reason", is("evicted")),
		credentialActiveSince:  unix(f.sumWhere("registry_proxy_credentials_active_since_seconds", "scope", is(""))),
		credentialPendingSince: unix(f.sumWhere("registry_proxy_credentials_pending_since_seconds", "scope", is(""))),
		credentialRejected:     f.sumWhere("registry_proxy_credentials_rejected", "scope", is("")) > 0,
	}, nil
}

// isError reports whether a request to the upstream got no response, or that of a temporary error.
func isError(code string) bool {
	return code == "0" || code == "429" || strings.HasPrefix(code, "5")
}

func isFailure(reason string) bool { return !status.IsFailureElsewhere(reason) }

func is(wanted string) func(string) bool {
	return func(value string) bool { return value == wanted }
}

func unix(seconds float64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(seconds * 1000)).UTC()
}

// families are the metrics by name. All caches of a process share its metrics, so those of other upstreams do not count.
type families struct {
	upstream string
	byName   map[string][]*dto.Metric
}

func (f families) sum(name string) float64 {
	return f.sumWhere(name, "", nil)
}

// sumWhere adds up the metrics of a name whose label has a suitable value.
func (f families) sumWhere(name, label string, suitable func(value string) bool) float64 {
	sum := 0.0
	for _, metric := range f.own(name) {
		if suitable == nil || suitable(labelOf(metric, label)) {
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return sum
}

func (f families) own(name string) []*dto.Metric {
	return slices.Collect(func(yield func(*dto.Metric) bool) {
		for _, metric := range f.byName[name] {
			if upstream := labelOf(metric, "upstream"); (upstream == "" || upstream == f.upstream) && !yield(metric) {
				return
			}
		}
	})
}

func labelOf(metric *dto.Metric, name string) string {
	for _, label := range metric.GetLabel() {
		if label.GetName() == name {
			return label.GetValue()
		}
	}
	return ""
}

// histogram has the cumulative count of observations for each upper bound.
type histogram map[float64]float64

// histogram adds up the histograms of a name.
func (f families) histogram(name string) histogram {
	h := histogram{}
	for _, metric := range f.own(name) {
		for _, bucket := range metric.GetHistogram().GetBucket() {
			h[bucket.GetUpperBound()] += float64(bucket.GetCumulativeCount())
		}
		h[math.Inf(1)] += float64(metric.GetHistogram().GetSampleCount())
	}
	return h
}

// quantile estimates a quantile as histogram_quantile of Prometheus does: the observations of a bucket are spread evenly
// over it, and those above the last bound count as that bound.
func (h histogram) quantile(q float64) time.Duration {
	rank := q * h[math.Inf(1)]
	lower, below := 0.0, 0.0
	for _, upper := range slices.Sorted(maps.Keys(h)) {
		count := h[upper]
		if count >= rank && count > below && !math.IsInf(upper, 1) {
			return time.Duration((lower + (upper-lower)*(rank-below)/(count-below)) * float64(time.Second))
		}
		if math.IsInf(upper, 1) {
			break
		}
		lower, below = upper, count
	}
	if rank == 0 {
		return 0
	}
	return time.Duration(lower * float64(time.Second))
}
