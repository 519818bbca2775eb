// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"strings"
)

// Kind is how a panel shows its series.
type Kind string

const (
	// Stat shows the last value of each series.
	Stat Kind = "stat"
	// Graph shows series over time.
	Graph Kind = "graph"
	// Table shows the labels and the last value of each series.
	Table Kind = "table"
)

// Units of panels, as Plutono names them.
const (
	UnitNone       = "short"
	UnitRatio      = "percentunit"
	UnitBytes      = "bytes"
	UnitBytesRate  = "Bps"
	UnitRequests   = "reqps"
	UnitOperations = "ops"
	UnitSeconds    = "s"
	UnitCores      = "none"
	UnitFromNow    = "dateTimeFromNow"
)

// Row is a row of panels.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel shows the results of queries.
type Panel struct {
	Title string
	// Kind is how the results are shown.
	Kind Kind
	// Unit is the unit of all results.
	Unit string
	// Meaning is what the panel shows, a sentence.
	Meaning string
	// Queries are the queries of the panel. A table has one.
	Queries []Query
	// Labels are the columns of a table.
	Labels []string
	// Datasource is the name of the data source, empty for the default one.
	Datasource string
	// Width of the panel; the width of a row is 24.
	Width int
}

// Query is a PromQL query with variables of the dashboard.
type Query struct {
	Expr string
	// Legend names a series by its labels.
	Legend string
}

// Evaluable returns the expression with all variables of the dashboard replaced, so that Prometheus can evaluate it: all
// caches, all replicas, the last hour.
func (q Query) Evaluable() string {
	return strings.NewReplacer(
		"$upstream_host", ".+",
		"$pod", ".+",
		"$__rate_interval", "5m",
		"$__range", "1h",
	).Replace(q.Expr)
}

func panelsOf(rows []Row) []Panel {
	var panels []Panel
	for _, row := range rows {
		panels = append(panels, row.Panels...)
	}
	return panels
}

// selected is the selector for the chosen caches and replicas, with additional matchers.
func selected(matchers ...string) string {
	return "{" + strings.Join(append([]string{`upstream_host=~"$upstream_host"`, `pod=~"$pod"`}, matchers...), ", ") + "}"
}

// rate is the rate of a counter, summed up by labels.
func rate(counter string, by ...string) string {
	return sum("rate("+counter+"[$__rate_interval])", by...)
}

func sum(expr string, by ...string) string {
	if len(by) == 0 {
		return "sum(" + expr + ")"
	}
	return "sum by (" + strings.Join(by, ", ") + ") (" + expr + ")"
}

// inRange is the increase of a counter within the time range of the dashboard, summed up by labels.
func inRange(counter string, by ...string) string {
	return sum("increase("+counter+"[$__range])", by...)
}

// quantile is a quantile of a histogram, by labels.
func quantile(q, histogram string, by ...string) string {
	return "histogram_quantile(" + q + ", " + rate(histogram, append([]string{"le"}, by...)...) + ")"
}

// hitRatio is the hit ratio from functions of the counter of requests.
func hitRatio(of func(counter string, by ...string) string, by ...string) string {
	chosen := `upstream_host=~"$upstream_host", pod=~"$pod"`
	return of(outcomes+fromCache(chosen), by...) + " / " + of(outcomes+served(chosen), by...)
}
