// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"net/http"
	"strings"
	"sync"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// routeReferrers is the one route that Distribution does not know.
const routeReferrers = "referrers"

// httpMetrics are Distribution's metrics of its HTTP API, with its names, labels and buckets. Distribution itself is told
// to keep none: it sees neither the requests that are answered without it nor the bytes that go past it.
type httpMetrics struct {
	inFlight      *prometheus.GaugeVec
	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	requestSizes  *prometheus.HistogramVec
	responseSizes *prometheus.HistogramVec
}

// processHTTPMetrics are in the default registry. All servers of a process share them.
var processHTTPMetrics = sync.OnceValue(func() httpMetrics {
	const namespace, subsystem, handler, method = "registry", "http", "handler", "method"
	sizes := prometheus.ExponentialBuckets(1024, 2, 22)
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets,
		}, labels)
	}
	m := httpMetrics{
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "in_flight_requests", Help: "Requests that are being answered.",
		}, []string{handler}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "requests_total", Help: "Requests that were answered.",
		}, []string{handler, "code", method}),
		duration: histogram("request_duration_seconds", "Time that answers took, to their last byte.",
			[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 60}, handler, method),
		requestSizes:  histogram("request_size_bytes", "Sizes of requests, approximately.", sizes, handler),
		responseSizes: histogram("response_size_bytes", "Sizes of the bodies of answers.", sizes, handler),
	}
	prometheus.MustRegister(m.inFlight, m.requests, m.duration, m.requestSizes, m.responseSizes)
	return m
})

// instrumented counts the requests of each route.
func instrumented(m httpMetrics, prefix string, next http.Handler) http.Handler {
	routes := map[string]http.Handler{}
	for _, name := range []string{
		v2.RouteNameBase, v2.RouteNameCatalog, v2.RouteNameTags, v2.RouteNameManifest, v2.RouteNameBlob, v2.RouteNameBlobUpload,
		v2.RouteNameBlobUploadChunk, routeReferrers,
	} {
		labels := prometheus.Labels{"handler": strings.ReplaceAll(name, "-", "_")}
		handler := promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(labels), survive(next))
		handler = promhttp.InstrumentHandlerDuration(m.duration.MustCurryWith(labels), handler)
		handler = promhttp.InstrumentHandlerRequestSize(m.requestSizes.MustCurryWith(labels), handler)
		routes[name] = abort(promhttp.InstrumentHandlerInFlight(m.inFlight.With(labels),
			promhttp.InstrumentHandlerResponseSize(m.responseSizes.MustCurryWith(labels), handler)))
	}
	base := strings.TrimSuffix(prefix, "/") + "/v2/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler := next
		if path, ok := strings.CutPrefix(r.URL.Path, base); ok {
			if counted, ok := routes[route(path)]; ok {
				handler = counted
			}
		}
		handler.ServeHTTP(w, r)
	})
}

// aborted marks an answer that broke off. It is no header that a client gets to see: it has no values.
const aborted = "Larder-Aborted"

// survive marks an answer that breaks off, for what counts it would not survive that.
func survive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch reason := recover(); reason {
			case nil:
			case http.ErrAbortHandler:
				w.Header()[aborted] = nil
			default:
				panic(reason)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// abort breaks off what is marked, when it has been counted.
func abort(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if _, ok := w.Header()[aborted]; ok {
			panic(http.ErrAbortHandler)
		}
	})
}

// route names the route of a path below /v2/, without that, and is empty if there is none. To match Distribution's regular
// expressions once more would be a tenth of what a HEAD costs by way of them.
func route(path string) string {
	parent, last := cutLast(path)
	name, kind := cutLast(parent)
	switch {
	case path == "":
		return v2.RouteNameBase
	case path == "_catalog":
		return v2.RouteNameCatalog
	case name == "":
		return ""
	case kind == "tags" && last == "list":
		return v2.RouteNameTags
	case kind == "uploads" && strings.HasSuffix(name, "/blobs"):
		if last == "" {
			return v2.RouteNameBlobUpload
		}
		return v2.RouteNameBlobUploadChunk
	case last == "":
		return ""
	case kind == "manifests":
		return v2.RouteNameManifest
	case kind == "blobs" && last != "uploads":
		return v2.RouteNameBlob
	case kind == "referrers":
		return routeReferrers
	}
	return ""
}

// cutLast takes the last element off a path.
func cutLast(path string) (parent, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}
