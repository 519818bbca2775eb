// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"encoding/json"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/health"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
)

const (
	healthPath         = "/debug/health"
	defaultMetricsPath = "/metrics"
)

// registryHandler is the registry API with what the engine adds. Where users have to authenticate, or others have a say in
// what is served, all goes through Distribution.
func registryHandler(config *configuration.Configuration, app http.Handler, engine *pullthrough.Engine) http.Handler {
	api := pullthrough.API{Prefix: config.HTTP.Prefix, Header: config.HTTP.Headers}
	handler := engine.Handler(app)
	if method := config.Auth.Type(); method == "" || method == "none" {
		if alone(config) {
			handler = engine.Manifests(api, handler)
		}
		handler = engine.Referrers(api, handler)
	}
	handler = api.ReadOnly(handler)
	if config.HTTP.Debug.Prometheus.Enabled {
		handler = instrumented(processHTTPMetrics(), config.HTTP.Prefix, handler)
	}
	return handler
}

// alone reports whether nobody but the engine is between Distribution's API and its storage: no other middleware, and
// nobody who is told of requests.
func alone(config *configuration.Configuration) bool {
	for _, kind := range []string{"registry", "repository"} {
		for _, m := range config.Middleware[kind] {
			if m.Name != pullthrough.Name && !m.Disabled {
				return false
			}
		}
	}
	return len(config.Notifications.Endpoints) == 0
}

// newHandler wraps the registry API. An unhealthy server refuses, so that containerd goes on to the upstream. That it is
// alive it says all the same: to restart it would mend nothing that it depends on.
func newHandler(config *configuration.Configuration, app http.Handler, checks *health.Registry) http.Handler {
	handler := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/":
			// The stock registry answers here that it is alive, and load balancers ask for it.
			w.Header().Set("Cache-Control", "no-cache")
		case len(checks.CheckStatus(r.Context())) > 0:
			serveError(w, errcode.ErrorCodeUnavailable.WithDetail("health check failed: please see "+healthPath))
		default:
			app.ServeHTTP(w, r)
		}
	}))
	if !config.Log.AccessLog.Disabled {
		handler = accessLogged(os.Stdout, handler)
	}
	return handler
}

// newDebugHandler serves health, metrics, and the state of the upstream's credentials by their names. Profiles are left
// out: they show the memory that credentials are in.
func newDebugHandler(config configuration.Debug, checks *health.Registry, engine *pullthrough.Engine) http.Handler {
	metrics := http.NotFoundHandler()
	if config.Prometheus.Enabled {
		metrics = promhttp.Handler()
	}
	metricsPath := config.Prometheus.Path
	if metricsPath == "" {
		metricsPath = defaultMetricsPath
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case healthPath:
			failures := checks.CheckStatus(r.Context())
			status := http.StatusOK
			if len(failures) > 0 {
				status = http.StatusServiceUnavailable
			}
			serveJSON(w, status, failures)
		case cacheconfig.CredentialsPath:
			report := engine.Credentials()
			if report == nil {
				http.NotFound(w, r)
				return
			}
			serveJSON(w, http.StatusOK, report)
		case metricsPath:
			metrics.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

func serveJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		logrus.WithError(err).Debug("An answer could not be written")
	}
}

func serveError(w http.ResponseWriter, err error) {
	if err := errcode.ServeJSON(w, err); err != nil {
		logrus.WithError(err).Debug("An error could not be written")
	}
}
