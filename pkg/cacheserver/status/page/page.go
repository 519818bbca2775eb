// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package page serves the status page of a cache server: one HTML document for people, without scripts and without
// resources from elsewhere.
//
// The numbers come from the metrics of the process, so the page and a dashboard count the same. States come from the report
// that the controller reads. All text of clients and of the upstream is bounded and escaped.
package page

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/status"
)

// Path is the path of the page.
const Path = "/debug/"

// Engine provides the events of a cache.
type Engine interface {
	// Misses returns the last events that were not hits, the newest first.
	Misses() []event.Event
	// Repositories returns the repositories with the most traffic.
	Repositories() []event.Repository
}

// Options are the sources of a page.
type Options struct {
	Engine Engine
	// Report returns the state of the server.
	Report func() status.Report
	// Metrics are the metrics of the process.
	Metrics prometheus.Gatherer
	// MetricsPath is where the server serves them, empty if it does not.
	MetricsPath string
	// Version is the version of the server.
	Version string
	Now     func() time.Time
}

var (
	//go:embed page.html
	document string
	//go:embed style.css
	style string

	page = template.Must(template.New("page").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(style) }, //nolint:gosec // It is a constant.
	}).Parse(document))
)

// header are the headers of the page. The policy forbids everything that the page does not need, so that a name that
// escapes its context cannot load or send anything.
var header = map[string]string{
	"Content-Type":            "text/html; charset=utf-8",
	"Cache-Control":           "no-store",
	"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"Referrer-Policy":         "no-referrer",
	"X-Content-Type-Options":  "nosniff",
}

// Handler serves the page.
func Handler(o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		content, err := o.render()
		if err != nil {
			logrus.WithError(err).Error("Failed to render the status page")
			http.Error(w, "the page could not be rendered, see the log of the cache", http.StatusInternalServerError)
			return
		}
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		// The server drops the body of a response to HEAD.
		_, _ = w.Write(content)
	})
}

// render returns the whole page, so that an error does not leave half of one.
func (o Options) render() ([]byte, error) {
	report := o.Report()
	figures, err := gather(o.Metrics, report.Upstream.Host)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	err = page.Execute(&content, o.newView(report, figures))
	return content.Bytes(), err
}
