// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
)

// httpMetrics are Distribution's metrics of its HTTP API, with its names, labels and buckets. Distribution's own are
// disabled: it does not see the requests that are served without it.
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
	routes := map[string]http.Handler{"": next}
	for _, kind := range route.Kinds {
		labels := prometheus.Labels{"handler": strings.ReplaceAll(kind, "-", "_")}
		handler := promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(labels), next)
		handler = promhttp.InstrumentHandlerDuration(m.duration.MustCurryWith(labels), handler)
		handler = promhttp.InstrumentHandlerRequestSize(m.requestSizes.MustCurryWith(labels), handler)
		routes[kind] = promhttp.InstrumentHandlerInFlight(m.inFlight.With(labels),
			promhttp.InstrumentHandlerResponseSize(m.responseSizes.MustCurryWith(labels), handler))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		routes[route.Parse(prefix, r.URL.Path).Kind].ServeHTTP(w, r)
	})
}
