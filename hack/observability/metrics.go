// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/larder-project/larder/pkg/cacheserver"
	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	enginemetrics "github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/pki"
)

// metric is a metric of the cache server.
type metric struct {
	name, kind, help string
	labels           []string
}

// unit is the unit of a metric, by its name.
func (m metric) unit() string {
	name := strings.TrimSuffix(m.name, "_total")
	for _, unit := range []string{"bytes", "seconds"} {
		if strings.HasSuffix(name, "_"+unit) {
			return unit
		}
	}
	return ""
}

// documented reports whether a metric is one of the cache. The others are those of the Go runtime and of libraries.
func documented(name string) bool {
	return strings.HasPrefix(name, "registry_proxy_") || strings.HasPrefix(name, "registry_http_")
}

// metricOf returns the metric of a family with at least one sample.
func metricOf(family *dto.MetricFamily) metric {
	m := metric{name: family.GetName(), kind: strings.ToLower(family.GetType().String()), help: family.GetHelp()}
	for _, label := range family.GetMetric()[0].GetLabel() {
		m.labels = append(m.labels, label.GetName())
	}
	return m
}

// serverMetrics starts a cache server and returns the metrics that it registers, sorted by name. Those that it serves but
// that were not registered while it started are an error: they would be missing from the documentation.
func serverMetrics(ctx context.Context) ([]metric, error) {
	recorder := &recorder{Registerer: prometheus.DefaultRegisterer}
	prometheus.DefaultRegisterer = recorder
	defer func() { prometheus.DefaultRegisterer = recorder.Registerer }()

	served, err := serve(ctx)
	if err != nil {
		return nil, err
	}
	families, err := recorder.gather()
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	var metrics []metric
	for _, family := range families {
		if !documented(family.GetName()) {
			continue
		}
		known[family.GetName()] = true
		metrics = append(metrics, metricOf(family))
	}
	for _, name := range served {
		if documented(name) && !known[name] {
			return nil, fmt.Errorf("metric %s is served, but was not registered with the default registry at the start", name)
		}
	}
	return metrics, nil
}

// serve runs a cache server as it runs in a Shoot, apart from addresses and directories, and returns the names of the
// metrics that it serves.
func serve(ctx context.Context) ([]string, error) {
	directory, err := os.MkdirTemp("", "observability")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	files, err := writeCertificate(directory)
	if err != nil {
		return nil, err
	}
	// Fetched gives the repositories a first one, without which they have no metrics.
	enginemetrics.Process().Repositories.Fetched("library/example", 1, time.Second)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var names []string
	var scrapeErr error
	err = cacheserver.RunLocal(ctx, cacheconfig.Config{
		RemoteURL: "https://registry.invalid",
		TTL:       time.Hour,
		TLS:       files,
		Local: &cacheconfig.Local{
			Address: "127.0.0.1:0", StatusAddress: "127.0.0.1:0", Directory: filepath.Join(directory, "storage"), MaxDiskUse: 90,
		},
	}, credentials.Credential{}, func(server *cacheserver.Server) {
		go func() {
			defer stop()
			names, scrapeErr = scrape(ctx, "http://"+server.DebugAddr()+"/metrics")
		}()
	})
	return names, errors.Join(err, scrapeErr)
}

func writeCertificate(directory string) (*cacheconfig.TLSFiles, error) {
	authority, err := pki.NewAuthority("observability")
	if err != nil {
		return nil, err
	}
	pair, err := authority.Issue(pki.Request{Hosts: []string{"localhost"}})
	if err != nil {
		return nil, err
	}
	files := &cacheconfig.TLSFiles{CertificateFile: filepath.Join(directory, "tls.crt"), KeyFile: filepath.Join(directory, "tls.key")}
	return files, errors.Join(
		os.WriteFile(files.CertificateFile, pair.Certificate, 0o600),
		os.WriteFile(files.KeyFile, pair.Key, 0o600),
	)
}

// scrape returns the names of the metrics at a URL.
func scrape(ctx context.Context, url string) ([]string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("parse metrics: %w", err)
	}
	names := make([]string, 0, len(families))
	for name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// recorder records the collectors that are registered.
type recorder struct {
	prometheus.Registerer

	mu         sync.Mutex
	collectors []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (r *recorder) Register(collector prometheus.Collector) error {
	if err := r.Registerer.Register(collector); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectors = append(r.collectors, collector)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *recorder) MustRegister(collectors ...prometheus.Collector) {
	for _, collector := range collectors {
		if err := r.Register(collector); err != nil {
			panic(err)
		}
	}
}

// gather returns a family for each metric of the recorded collectors, sorted by name.
func (r *recorder) gather() ([]*dto.MetricFamily, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	registry := prometheus.NewRegistry()
	for _, collector := range r.collectors {
		if err := instantiate(collector); err != nil {
			return nil, err
		}
		if err := registry.Register(collector); err != nil {
			return nil, err
		}
	}
	return registry.Gather()
}

// maxLabels is more labels than any metric has.
const maxLabels = 8

// instantiate makes a vector have a metric, without which it has no name, type and labels to gather.
func instantiate(collector prometheus.Collector) error {
	var with func(values ...string) error
	switch vector := collector.(type) {
	case *prometheus.CounterVec:
		with = func(values ...string) error { _, err := vector.GetMetricWithLabelValues(values...); return err }
	case *prometheus.GaugeVec:
		with = func(values ...string) error { _, err := vector.GetMetricWithLabelValues(values...); return err }
	case *prometheus.HistogramVec:
		with = func(values ...string) error { _, err := vector.GetMetricWithLabelValues(values...); return err }
	default:
		return nil
	}
	for n := range maxLabels {
		if with(make([]string, n)...) == nil {
			return nil
		}
	}
	return fmt.Errorf("a vector has %d labels or more", maxLabels)
}
