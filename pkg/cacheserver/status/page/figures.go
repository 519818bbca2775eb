// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// figures are the numbers of the page, since the start of the process. A metric that does not exist is 0.
type figures struct {
	started time.Time // zero if unknown

	requests, hits                    float64
	pushedBytes, savedBytes           float64
	fetchErrors, staleTags            float64
	coalesced, corrupt                float64
	upstreamRequests, upstreamErrors  float64
	latencyMedian, latencyP95         time.Duration // 0 without requests
	budgets                           []budget
	activeTransfers                   float64
	storageUsed, volumeSize, freeSize float64
	evictedBytes                      float64
	credentialActiveSince             time.Time // zero if the upstream has not accepted it
}

// budget is what is left of a rate limit, for the repositories of a scope.
type budget struct {
	scope            string
	limit, remaining float64
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
		started:               unix(f.sum("process_start_time_seconds")),
		requests:              f.sum("registry_proxy_requests_total"),
		hits:                  f.sum("registry_proxy_hits_total"),
		pushedBytes:           f.sum("registry_proxy_pushed_bytes_total"),
		savedBytes:            f.sum("registry_proxy_saved_bytes_total"),
		fetchErrors:           f.sum("registry_proxy_fill_errors_total"),
		staleTags:             f.sum("registry_proxy_stale_tags_total"),
		coalesced:             f.sum("registry_proxy_coalesced_total"),
		corrupt:               f.sum("registry_proxy_corrupt_total"),
		upstreamRequests:      f.sum("registry_proxy_upstream_requests_total"),
		upstreamErrors:        f.sumWhere("registry_proxy_upstream_requests_total", "code", isError),
		latencyMedian:         latency.quantile(0.5),
		latencyP95:            latency.quantile(0.95),
		budgets:               f.budgets(),
		activeTransfers:       f.sum("registry_proxy_active_transfers"),
		storageUsed:           f.sum("registry_proxy_storage_used_bytes"),
		volumeSize:            f.sumWhere("registry_proxy_volume_bytes", "state", is("total")),
		freeSize:              f.sumWhere("registry_proxy_volume_bytes", "state", is("free")),
		evictedBytes:          f.sumWhere("registry_proxy_removed_bytes_total", "reason", is("evicted")),
		credentialActiveSince: unix(f.sum("registry_proxy_credentials_active_since_seconds")),
	}, nil
}

// isError reports whether a request to the upstream got no response, or that of a temporary error.
func isError(code string) bool {
	status, err := strconv.Atoi(code)
	return err == nil && (status == 0 || status == 429 || status >= 500)
}

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

func (f families) budgets() []budget {
	byScope := map[string]*budget{}
	for _, metric := range f.own("registry_proxy_upstream_rate_limit") {
		scope := labelOf(metric, "scope")
		byScope[scope] = &budget{scope: scope, limit: metric.GetGauge().GetValue()}
	}
	for _, metric := range f.own("registry_proxy_upstream_rate_limit_remaining") {
		if b, ok := byScope[labelOf(metric, "scope")]; ok {
			b.remaining = metric.GetGauge().GetValue()
		}
	}
	var all []budget
	for _, scope := range slices.Sorted(maps.Keys(byScope)) {
		if b := byScope[scope]; b.limit > 0 {
			all = append(all, *b)
		}
	}
	return all
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
