// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/health"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	gorillahandlers "github.com/gorilla/handlers"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"
	"k8s.io/component-base/version"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/status/page"
	"github.com/larder-project/larder/pkg/credentials"
)

const (
	healthPath         = "/debug/health"
	defaultMetricsPath = "/metrics"
)

// registryHandler is the registry API with what the engine adds.
func registryHandler(config *configuration.Configuration, app http.Handler, engine *pullthrough.Engine) http.Handler {
	method := config.Auth.Type()
	handler := engine.Handler(pullthrough.API{
		Prefix: config.HTTP.Prefix, Header: config.HTTP.Headers,
		AccessControlled: method != "" && method != "none", Observed: hasObservers(config),
	}, app)
	if config.HTTP.Debug.Prometheus.Enabled {
		handler = instrumented(processHTTPMetrics(), config.HTTP.Prefix, handler)
	}
	return handler
}

// hasObservers reports whether other middlewares or receivers of notifications have to see requests.
func hasObservers(config *configuration.Configuration) bool {
	for _, kind := range []string{"registry", "repository"} {
		for _, m := range config.Middleware[kind] {
			if m.Name != pullthrough.Name && !m.Disabled {
				return true
			}
		}
	}
	return len(config.Notifications.Endpoints) > 0
}

// newHandler wraps the registry API. An unhealthy server refuses requests, so that containerd goes on to the upstream. It
// still reports liveness: a restart would not fix its dependencies.
func newHandler(config *configuration.Configuration, app http.Handler, checks *health.Registry) http.Handler {
	handler := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/":
			// The liveness endpoint of the stock registry, which load balancers use.
			w.Header().Set("Cache-Control", "no-cache")
		case len(checks.CheckStatus(r.Context())) > 0:
			serveError(w, errcode.ErrorCodeUnavailable.WithDetail("health check failed: please see "+healthPath))
		default:
			app.ServeHTTP(w, r)
		}
	}))
	if !config.Log.AccessLog.Disabled {
		handler = gorillahandlers.CombinedLoggingHandler(os.Stdout, handler)
	}
	return handler
}

// newDebugHandler serves health and metrics, and the state of the server. It serves no profiles: they would expose the
// memory that holds the credentials.
func (s *Server) newDebugHandler(config configuration.Debug, checks *health.Registry) http.Handler {
	metricsPath := ""
	if config.Prometheus.Enabled {
		metricsPath = cmp.Or(config.Prometheus.Path, defaultMetricsPath)
	}
	metrics, state := promhttp.Handler(), s.stateHandler(metricsPath)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case healthPath:
			failures := checks.CheckStatus(r.Context())
			if s.engine.VolumeHangs() { // It is no check: such a server still serves what is in memory.
				failures["volume"] = "the volume does not respond"
			}
			status := http.StatusOK
			if len(failures) > 0 {
				status = http.StatusServiceUnavailable
			}
			serveJSON(w, status, failures)
		case metricsPath: // Empty if it is disabled; the path of a request is not.
			metrics.ServeHTTP(w, r)
		default:
			if !s.engine.AdmitsDebug(r) {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry cache"`)
				http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
				return
			}
			state.ServeHTTP(w, r)
		}
	})
}

// stateHandler serves the state of the server, for programs and for people.
func (s *Server) stateHandler(metricsPath string) http.Handler {
	people := page.Handler(page.Options{
		Engine: s.engine, Report: s.report, Metrics: prometheus.DefaultGatherer, MetricsPath: metricsPath,
		Version: serverVersion(), Now: time.Now,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case page.Path:
			people.ServeHTTP(w, r)
		case strings.TrimSuffix(page.Path, "/"):
			http.Redirect(w, r, page.Path, http.StatusFound)
		case cacheconfig.StatusPath:
			w.Header().Set("Cache-Control", "no-store")
			serveJSON(w, http.StatusOK, s.report())
		case cacheconfig.CredentialsPath:
			reports := credentials.Reports{Report: s.engine.Credentials(), Repositories: s.engine.RepositoryCredentials()}
			if reports.Report == nil && len(reports.Repositories) == 0 {
				http.NotFound(w, r)
				return
			}
			serveJSON(w, http.StatusOK, reports)
		default:
			http.NotFound(w, r)
		}
	})
}

// serverVersion returns the version of the server, without the placeholder for a commit that go run leaves in it.
func serverVersion() string {
	name, _, _ := strings.Cut(version.Get().GitVersion, "+$Format")
	return name
}

func serveJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		logrus.WithError(err).Debug("Failed to write a response")
	}
}

func serveError(w http.ResponseWriter, err error) {
	if err := errcode.ServeJSON(w, err); err != nil {
		logrus.WithError(err).Debug("Failed to write an error")
	}
}
