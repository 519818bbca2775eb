// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package metrics counts what the cache does.
//
// The first five names are those of Distribution's own proxy, with its labels, so that dashboards go on working. That
// proxy is linked into the server but never runs, and what it registered under the same names is taken out.
package metrics

import (
	"errors"
	"regexp"
	"strconv"
	"sync"
	"time"

	distribution "github.com/distribution/distribution/v3/metrics"
	// Its registration has to come before it is taken out.
	_ "github.com/distribution/distribution/v3/registry/proxy"
	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label type.
const (
	Blob     = "blob"
	Manifest = "manifest"
)

// Metrics are the metrics of a process. All its engines share them.
type Metrics struct {
	Requests    *prometheus.CounterVec // type
	Hits        *prometheus.CounterVec // type
	Misses      *prometheus.CounterVec // type
	PulledBytes *prometheus.CounterVec // type
	PushedBytes *prometheus.CounterVec // type

	UpstreamRequests *prometheus.CounterVec   // upstream, kind, code
	UpstreamDuration *prometheus.HistogramVec // upstream, kind
	UpstreamUp       *prometheus.GaugeVec     // upstream
	RateLimit        *prometheus.GaugeVec     // upstream, scope
	RateLimitLeft    *prometheus.GaugeVec     // upstream, scope
	Rejected         *prometheus.GaugeVec     // upstream
	ActiveSince      *prometheus.GaugeVec     // upstream
	Coalesced        *prometheus.CounterVec   // type
	SavedBytes       *prometheus.CounterVec   // type
	StaleTags        *prometheus.CounterVec   // reason
	FillDuration     prometheus.Histogram
	FillErrors       *prometheus.CounterVec // reason
	Resumed          prometheus.Counter
	Unstored         prometheus.Counter
	Removed          *prometheus.CounterVec // type, reason
	RemovedBytes     *prometheus.CounterVec // reason
	Corrupt          prometheus.Counter
	StorageUsed      prometheus.Gauge
	VolumeBytes      *prometheus.GaugeVec // state
}

var (
	processOnce sync.Once
	process     *Metrics
)

// Process returns the metrics in the default registry, which Distribution's debug server exposes.
func Process() *Metrics {
	processOnce.Do(func() {
		prometheus.Unregister(distribution.ProxyNamespace)
		process = New(prometheus.DefaultRegisterer)
	})
	return process
}

// New returns metrics in a registry of their own.
func New(registerer prometheus.Registerer) *Metrics {
	f := factory{registerer}
	m := &Metrics{
		Requests:    f.counters("requests_total", "Requests of clients for content.", "type"),
		Hits:        f.counters("hits_total", "Requests that were served from the cache.", "type"),
		Misses:      f.counters("misses_total", "Requests for which the upstream had to be asked for content.", "type"),
		PulledBytes: f.counters("pulled_bytes_total", "Bytes of content fetched from the upstream.", "type"),
		PushedBytes: f.counters("pushed_bytes_total", "Bytes of content sent to clients.", "type"),

		UpstreamRequests: f.counters("upstream_requests_total", "HTTP requests to the upstream by kind and status; 0 is no answer.", "upstream", "kind", "code"),
		UpstreamDuration: f.histograms("upstream_request_duration_seconds", "Time until the header of the upstream's answer.", "upstream", "kind"),
		UpstreamUp:       f.gauges("upstream_up", "Whether the upstream has answered lately.", "upstream"),
		RateLimit:        f.gauges("upstream_rate_limit", "Requests that the upstream allows the credential for a scope of repositories in its time window, as it told; the scope is empty for the credential for all others.", "upstream", "scope"),
		RateLimitLeft:    f.gauges("upstream_rate_limit_remaining", "Requests that are left of these in the upstream's time window, as it told.", "upstream", "scope"),
		Rejected:         f.gauges("credentials_rejected", "Whether the upstream rejects the credentials that should be used.", "upstream"),
		ActiveSince:      f.gauges("credentials_active_since_seconds", "Unix time since which the credentials in use have been accepted; 0 if they are not.", "upstream"),
		Coalesced:        f.counters("coalesced_total", "Requests of clients that shared a fetch which was running already.", "type"),
		SavedBytes:       f.counters("saved_bytes_total", "Bytes sent to clients that did not have to be fetched for them.", "type"),
		StaleTags:        f.counters("stale_tags_total", "Tags served from the cache because the upstream could not be asked, by reason.", "reason"),
		FillErrors:       f.counters("fill_errors_total", "Fetches that failed, by reason.", "reason"),
		Removed:          f.counters("removed_total", "Objects removed from the cache, by reason.", "type", "reason"),
		RemovedBytes:     f.counters("removed_bytes_total", "Bytes removed from the cache, by reason.", "reason"),
		VolumeBytes:      f.gauges("volume_bytes", "Size of the volume, and what is free of it.", "state"),
	}
	m.FillDuration = register(registerer, prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "fill_duration_seconds",
		Help:    "Time from the beginning of a fetch of a blob until it was stored.",
		Buckets: prometheus.ExponentialBuckets(0.01, 4, 9),
	}))
	m.Resumed = f.counter("resumed_total", "Fetches that were resumed after the upstream broke off.")
	m.Unstored = f.counter("unstored_total", "Fetches that could not be stored for lack of space.")
	m.Corrupt = f.counter("corrupt_total", "Objects in the cache that did not match their digest, and were dropped.")
	m.StorageUsed = register(registerer, prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "storage_used_bytes", Help: "Bytes of content in the cache.",
	}))
	for _, kind := range []string{Blob, Manifest} {
		for _, counter := range []*prometheus.CounterVec{m.Requests, m.Hits, m.Misses, m.PulledBytes, m.PushedBytes, m.Coalesced, m.SavedBytes} {
			counter.WithLabelValues(kind)
		}
	}
	return m
}

const (
	namespace = "registry"
	subsystem = "proxy"
)

type factory struct{ registerer prometheus.Registerer }

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	if before, ok := distributionHelp()[namespace+"_"+subsystem+"_"+name]; ok {
		help = before
	}
	return register(f.registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
	}, labels))
}

var descriptor = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "([^"]*)"`)

// distributionHelp returns the help texts of Distribution's proxy by name. A registry insists on one text for a name,
// even when what had it before is taken out.
var distributionHelp = sync.OnceValue(func() map[string]string {
	descriptors := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptors)
		distribution.ProxyNamespace.Describe(descriptors)
	}()
	texts := map[string]string{}
	for d := range descriptors {
		if match := descriptor.FindStringSubmatch(d.String()); match != nil {
			texts[match[1]] = match[2]
		}
	}
	return texts
})

func (f factory) counter(name, help string) prometheus.Counter {
	return register(f.registerer, prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
	}))
}

func (f factory) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return register(f.registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
	}, labels))
}

func (f factory) histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return register(f.registerer, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
		Buckets: prometheus.ExponentialBuckets(0.005, 4, 7),
	}, labels))
}

// register returns the collector that is registered in the end: what was registered before, or this one. One that
// cannot be registered would count in vain, which is a fault of this package that its tests find.
func register[C prometheus.Collector](registerer prometheus.Registerer, collector C) C {
	err := registerer.Register(collector)
	var before prometheus.AlreadyRegisteredError
	if errors.As(err, &before) {
		if existing, ok := before.ExistingCollector.(C); ok {
			return existing
		}
	}
	return collector
}

// Upstream observes the requests to one upstream. It is an upstream.Observer.
type Upstream struct {
	metrics *Metrics
	host    string
}

// Upstream returns the observer for an upstream.
func (m *Metrics) Upstream(host string) Upstream {
	m.UpstreamUp.WithLabelValues(host).Set(1)
	return Upstream{metrics: m, host: host}
}

// Request counts a request.
func (u Upstream) Request(kind string, status int, duration time.Duration) {
	u.metrics.UpstreamRequests.WithLabelValues(u.host, kind, strconv.Itoa(status)).Inc()
	u.metrics.UpstreamDuration.WithLabelValues(u.host, kind).Observe(duration.Seconds())
}

// Health notes whether the upstream answers.
func (u Upstream) Health(up bool) {
	value := 0.0
	if up {
		value = 1
	}
	u.metrics.UpstreamUp.WithLabelValues(u.host).Set(value)
}

// Budget notes what the upstream allows the credential for a scope of repositories.
func (u Upstream) Budget(scope string, limit, remaining int64) {
	u.metrics.RateLimit.WithLabelValues(u.host, scope).Set(float64(limit))
	u.metrics.RateLimitLeft.WithLabelValues(u.host, scope).Set(float64(remaining))
}

// Credentials notes whether the upstream rejects the credentials, and since when it has accepted those in use; the zero
// time means that it has not.
func (u Upstream) Credentials(rejected bool, activeSince time.Time) {
	value, since := 0.0, 0.0
	if rejected {
		value = 1
	}
	if !activeSince.IsZero() {
		since = float64(activeSince.Unix())
	}
	u.metrics.Rejected.WithLabelValues(u.host).Set(value)
	u.metrics.ActiveSince.WithLabelValues(u.host).Set(since)
}
