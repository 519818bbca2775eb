// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package metrics has the metrics of the cache.
//
// The first five have the names and labels of Distribution's own proxy, so existing dashboards keep working. That proxy
// is linked into the server but never runs, and its metrics of the same names are unregistered.
package metrics

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	distribution "github.com/distribution/distribution/v3/metrics"
	// Its init function registers the metrics that Process unregisters.
	_ "github.com/distribution/distribution/v3/registry/proxy"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
)

// Values of the label type.
const (
	Blob     = "blob"
	Manifest = "manifest"
)

// Metrics has the metrics of a process, which all its engines share.
type Metrics struct {
	Requests    *prometheus.CounterVec // type
	Hits        *prometheus.CounterVec // type
	Misses      *prometheus.CounterVec // type
	Outcomes    *prometheus.CounterVec // type, outcome
	PulledBytes *prometheus.CounterVec // type
	PushedBytes *prometheus.CounterVec // type

	UpstreamRequests *prometheus.CounterVec   // upstream, kind, code
	UpstreamDuration *prometheus.HistogramVec // upstream, kind
	UpstreamUp       *prometheus.GaugeVec     // upstream
	RateLimit        *prometheus.GaugeVec     // upstream, scope
	RateLimitLeft    *prometheus.GaugeVec     // upstream, scope
	Rejected         *prometheus.GaugeVec     // upstream, scope
	ActiveSince      *prometheus.GaugeVec     // upstream, scope
	PendingSince     *prometheus.GaugeVec     // upstream, scope
	Expiry           *prometheus.GaugeVec     // upstream, scope
	Coalesced        *prometheus.CounterVec   // type
	SavedBytes       *prometheus.CounterVec   // type
	StaleTags        *prometheus.CounterVec   // reason
	FillDuration     prometheus.Histogram
	FillErrors       *prometheus.CounterVec // reason
	Resumed          prometheus.Counter
	Unstored         prometheus.Counter
	AccessResults    *prometheus.CounterVec // result
	StoreErrors      prometheus.Counter
	Removed          *prometheus.CounterVec // type, reason
	RemovedBytes     *prometheus.CounterVec // reason
	Corrupt          prometheus.Counter
	StorageUsed      prometheus.Gauge
	VolumeBytes      *prometheus.GaugeVec // state
	ActiveTransfers  prometheus.Gauge
	Repositories     *Repositories

	bypassed, storeFailed, rateLimited moment
	failures                           failures
}

// Process returns the metrics in the default registry, which the debug server exposes.
var Process = sync.OnceValue(func() *Metrics {
	prometheus.Unregister(distribution.ProxyNamespace)
	return New(prometheus.DefaultRegisterer)
})

// New returns metrics in the given registry.
func New(registerer prometheus.Registerer) *Metrics {
	f := factory{registerer}
	m := &Metrics{
		Requests:    f.counters("requests_total", "Requests of clients for content.", "type"),
		Hits:        f.counters("hits_total", "Requests served from the cache.", "type"),
		Misses:      f.counters("misses_total", "Requests for which content had to be fetched from the upstream.", "type"),
		Outcomes:    f.counters("outcomes_total", "Requests of clients for content by how they were served, as in the log.", "type", "outcome"),
		PulledBytes: f.counters("pulled_bytes_total", "Bytes of content fetched from the upstream.", "type"),
		PushedBytes: f.counters("pushed_bytes_total", "Bytes of content sent to clients.", "type"),

		UpstreamRequests: f.counters("upstream_requests_total", "HTTP requests to the upstream by kind and status; 0 means no response, and rare statuses are counted by class.", "upstream", "kind", "code"),
		UpstreamDuration: f.histograms("upstream_request_duration_seconds", "Time until the header of the upstream's response.", "upstream", "kind"),
		UpstreamUp:       f.gauges("upstream_up", "Whether the upstream is reachable; 0 until all kinds of requests that failed succeed again.", "upstream"),
		RateLimit:        f.gauges("upstream_rate_limit", "Limit of requests in the upstream's time window, as reported by the upstream, for the credential of a scope of repositories, the first of which is its name, or, while access to the cache is restricted, its number; the scope of the credential for all other repositories is empty.", "upstream", "scope"),
		RateLimitLeft:    f.gauges("upstream_rate_limit_remaining", "Remaining requests of the limit, as reported by the upstream; missing once the time window of the last report has passed.", "upstream", "scope"),
		Rejected:         f.gauges("credentials_rejected", "Whether the upstream rejects the credential of a scope of repositories, the first of which is its name, or, while access to the cache is restricted, its number; the scope of the credential for all other repositories is empty.", "upstream", "scope"),
		ActiveSince:      f.gauges("credentials_active_since_seconds", "Unix time at which the upstream accepted the active credential of a scope of repositories; 0 if it has not.", "upstream", "scope"),
		PendingSince:     f.gauges("credentials_pending_since_seconds", "Unix time since which a candidate for a scope of repositories waits for the upstream to accept it; 0 if there is none.", "upstream", "scope"),
		Expiry:           f.gauges("credentials_expiry_seconds", "Unix time at which the active credential of a scope of repositories expires, if a cloud issued it.", "upstream", "scope"),
		Coalesced:        f.counters("coalesced_total", "Requests of clients that shared a running fetch.", "type"),
		SavedBytes:       f.counters("saved_bytes_total", "Bytes sent to clients without fetching them again.", "type"),
		StaleTags:        f.counters("stale_tags_total", "Tags served from the cache without validation, by reason.", "reason"),
		FillErrors:       f.counters("fill_errors_total", "Fetches that failed, by reason.", "reason"),
		AccessResults:    f.counters("access_requests_total", "Requests of clients to a cache with restricted access, by decision: public, granted, account and node pass; challenged asks for a credential, which is part of a pull; denied, missing, limited, unavailable and unsupported are refusals.", "result"),
		Removed:          f.counters("removed_total", "Objects removed from the cache, by reason.", "type", "reason"),
		RemovedBytes:     f.counters("removed_bytes_total", "Bytes removed from the cache, by reason.", "reason"),
		VolumeBytes:      f.gauges("volume_bytes", "Size of the volume and its free space, in bytes.", "state"),
	}
	m.FillDuration = register(registerer, prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "fill_duration_seconds",
		Help:    "Duration of fetches of blobs, until the blob is stored.",
		Buckets: prometheus.ExponentialBuckets(0.01, 4, 9),
	}))
	m.Resumed = f.counter("resumed_total", "Fetches that were resumed after an interruption.")
	m.Unstored = f.counter("unstored_total", "Fetches that could not be stored for lack of space.")
	m.bypassed.gauge = f.gauge("bypassed_at_seconds", "Unix time of the last fetch that could not be stored for lack of space; 0 if there was none.")
	m.StoreErrors = f.counter("store_errors_total", "Fetches that could not be stored for a reason other than lack of space.")
	m.storeFailed.gauge = f.gauge("store_failed_at_seconds", "Unix time of the last fetch that could not be stored for a reason other than lack of space; 0 if there was none.")
	m.ActiveTransfers = f.gauge("active_transfers", "Blobs that are being fetched or verified.")
	m.Repositories = register(registerer, newRepositories())
	m.Corrupt = f.counter("corrupt_total", "Cached objects that did not match their digest and were dropped.")
	m.StorageUsed = f.gauge("storage_used_bytes", "Bytes of content in the cache.")
	for _, kind := range []string{Blob, Manifest} {
		for _, counter := range []*prometheus.CounterVec{m.Requests, m.Hits, m.Misses, m.PulledBytes, m.PushedBytes, m.Coalesced, m.SavedBytes} {
			counter.WithLabelValues(kind)
		}
		for _, outcome := range event.Outcomes() {
			m.Outcomes.WithLabelValues(kind, string(outcome))
		}
	}
	return m
}

// Access returns what counts a request by its result, which is one of the given ones.
func (m *Metrics) Access(results []string) func(result string) {
	counters := make(map[string]prometheus.Counter, len(results))
	for _, result := range results {
		counters[result] = m.AccessResults.WithLabelValues(result)
	}
	return func(result string) { counters[result].Inc() }
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

// distributionHelp returns the help texts of Distribution's proxy by name. A registry accepts only one text for a name,
// even after the first metric of that name was unregistered.
var distributionHelp = sync.OnceValue(func() map[string]string {
	registry := prometheus.NewRegistry()
	registry.MustRegister(distribution.ProxyNamespace)
	families, err := registry.Gather()
	if err != nil {
		return nil // The tests of this package would fail.
	}
	texts := map[string]string{}
	for _, family := range families {
		texts[family.GetName()] = family.GetHelp()
	}
	return texts
})

func (f factory) counter(name, help string) prometheus.Counter {
	return register(f.registerer, prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
	}))
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	return register(f.registerer, prometheus.NewGauge(prometheus.GaugeOpts{
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

// register registers a collector, or returns the one that is already registered. The metrics of a collector that cannot
// be registered are not exposed; the tests of this package would fail.
func register[C prometheus.Collector](registerer prometheus.Registerer, collector C) C {
	err := registerer.Register(collector)
	if registered, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := registered.ExistingCollector.(C); ok {
			return existing
		}
	}
	return collector
}

// Upstream observes the requests to one upstream. It implements remote.Observer.
type Upstream struct {
	metrics *Metrics
	host    string
	// labels replace the scopes of repositories, if there are any.
	labels map[string]string
}

// WithLabels returns an observer that names scopes of repositories by the given labels, because readers may not be
// allowed to know the repositories.
func (u Upstream) WithLabels(labels map[string]string) Upstream {
	u.labels = labels
	return u
}

func (u Upstream) label(scope string) string {
	if u.labels == nil {
		return scope
	}
	return u.labels[scope]
}

// Upstream returns the observer for an upstream.
func (m *Metrics) Upstream(host string) Upstream {
	m.UpstreamUp.WithLabelValues(host).Set(1)
	return Upstream{metrics: m, host: host}
}

// Request counts a request.
func (u Upstream) Request(kind string, status int, duration time.Duration) {
	u.metrics.UpstreamRequests.WithLabelValues(u.host, kind, codeOf(status)).Inc()
	u.metrics.UpstreamDuration.WithLabelValues(u.host, kind).Observe(duration.Seconds())
	if status == http.StatusTooManyRequests {
		u.metrics.rateLimited.now()
	}
}

// codeOf returns the label for a status. The upstream, its token service or the target of a redirect may send any number,
// so only those that are common or have a meaning for the cache are labels of their own.
func codeOf(status int) string {
	switch status {
	case 0,
		http.StatusOK, http.StatusPartialContent,
		http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect,
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusRequestedRangeNotSatisfiable, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusNotImplemented, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return strconv.Itoa(status)
	}
	if class := status / 100; 1 <= class && class <= 5 {
		return strconv.Itoa(class) + "xx"
	}
	return "other"
}

// Health records whether the upstream responds.
func (u Upstream) Health(up bool) {
	value := 0.0
	if up {
		value = 1
	}
	u.metrics.UpstreamUp.WithLabelValues(u.host).Set(value)
}

// Budget records the upstream's rate limit for the credential of a scope of repositories.
func (u Upstream) Budget(scope string, limit, remaining int64) {
	scope = u.label(scope)
	u.metrics.RateLimit.WithLabelValues(u.host, scope).Set(float64(limit))
	u.metrics.RateLimitLeft.WithLabelValues(u.host, scope).Set(float64(remaining))
}

// BudgetExpired drops the rate limit of a scope, which is unknown from then on.
func (u Upstream) BudgetExpired(scope string) {
	scope = u.label(scope)
	u.metrics.RateLimit.DeleteLabelValues(u.host, scope)
	u.metrics.RateLimitLeft.DeleteLabelValues(u.host, scope)
}

// Credential is the state of the credential of a scope.
type Credential struct {
	// Rejected means that the upstream rejects it.
	Rejected bool
	// ActiveSince is when the upstream accepted the active one, zero if it has not.
	ActiveSince time.Time
	// PendingSince is since when a candidate waits for that, zero if there is none.
	PendingSince time.Time
	// Expiry is when the active one expires, zero if it does not.
	Expiry time.Time
}

// Credential records the state of the credential of a scope of repositories, which is empty for all others.
func (u Upstream) Credential(scope string, c Credential) {
	scope = u.label(scope)
	value := 0.0
	if c.Rejected {
		value = 1
	}
	u.metrics.Rejected.WithLabelValues(u.host, scope).Set(value)
	u.metrics.ActiveSince.WithLabelValues(u.host, scope).Set(unix(c.ActiveSince))
	u.metrics.PendingSince.WithLabelValues(u.host, scope).Set(unix(c.PendingSince))
	if c.Expiry.IsZero() {
		u.metrics.Expiry.DeleteLabelValues(u.host, scope)
	} else {
		u.metrics.Expiry.WithLabelValues(u.host, scope).Set(unix(c.Expiry))
	}
}

// unix returns the Unix time, 0 for the zero time.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}
