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

// Rows returns the rows of the dashboard of a Shoot.
func Rows() []Row {
	return []Row{hitsRow(), upstreamRow(), storageRow(), credentialsRow(), repositoriesRow(), transfersRow(), serverRow()}
}

// Panels returns all panels of the dashboard of a Shoot.
func Panels() []Panel { return panelsOf(Rows()) }

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

func hitsRow() Row {
	requests, hits := "registry_proxy_requests_total"+selected(), "registry_proxy_hits_total"+selected()
	pushed, pulled, saved := "registry_proxy_pushed_bytes_total"+selected(), "registry_proxy_pulled_bytes_total"+selected(), "registry_proxy_saved_bytes_total"+selected()
	return Row{Title: "Hits and saved bytes", Panels: []Panel{
		{
			Title: "Hit ratio", Kind: Stat, Unit: UnitRatio, Width: 6,
			Meaning: "Part of the requests that needed no fetch of their own: they were served from the cache, or shared a running fetch.",
			Queries: []Query{{Expr: inRange(hits) + " / " + inRange(requests)}},
		},
		{
			Title: "Bytes served", Kind: Stat, Unit: UnitBytes, Width: 6,
			Meaning: "Content sent to clients.",
			Queries: []Query{{Expr: inRange(pushed)}},
		},
		{
			Title: "Bytes saved", Kind: Stat, Unit: UnitBytes, Width: 6,
			Meaning: "Content sent to clients without fetching it again.",
			Queries: []Query{{Expr: inRange(saved)}},
		},
		{
			Title: "Alerts", Kind: Stat, Unit: UnitNone, Width: 6,
			Meaning: "Alerts that fire for all caches of the Shoot, whichever are selected.",
			Queries: []Query{{Expr: `count(ALERTS{service="registry-cache-extension", alertstate="firing"}) or vector(0)`}},
		},
		{
			Title: "Requests", Kind: Graph, Unit: UnitRequests, Width: 8,
			Meaning: "Requests of clients for content, by how they were served.",
			Queries: []Query{
				{Expr: rate(hits), Legend: "hits"},
				{Expr: rate("registry_proxy_misses_total" + selected()), Legend: "misses"},
				{Expr: rate("registry_proxy_coalesced_total" + selected()), Legend: "shared a fetch"},
			},
		},
		{
			Title: "Hit ratio by cache", Kind: Graph, Unit: UnitRatio, Width: 8,
			Meaning: "Part of the requests that needed no fetch of their own: they were served from the cache, or shared a running fetch.",
			Queries: []Query{{Expr: rate(hits, "upstream_host") + " / " + rate(requests, "upstream_host"), Legend: "{{upstream_host}}"}},
		},
		{
			Title: "Traffic", Kind: Graph, Unit: UnitBytesRate, Width: 8,
			Meaning: "Content sent to clients, content fetched from upstreams, and content sent without fetching it again.",
			Queries: []Query{
				{Expr: rate(pushed), Legend: "served"},
				{Expr: rate(pulled), Legend: "fetched"},
				{Expr: rate(saved), Legend: "saved"},
			},
		},
	}}
}

func upstreamRow() Row {
	requests := "registry_proxy_upstream_requests_total" + selected()
	duration := "registry_proxy_upstream_request_duration_seconds_bucket" + selected()
	return Row{Title: "Upstreams", Panels: []Panel{
		{
			Title: "Upstream latency", Kind: Graph, Unit: UnitSeconds, Width: 8,
			Meaning: "Time until the header of a response.",
			Queries: []Query{
				{Expr: quantile("0.5", duration, "upstream_host"), Legend: "{{upstream_host}} 50 %"},
				{Expr: quantile("0.95", duration, "upstream_host"), Legend: "{{upstream_host}} 95 %"},
			},
		},
		{
			Title: "Upstream requests", Kind: Graph, Unit: UnitRequests, Width: 8,
			Meaning: "Requests to upstreams by status; 0 means no response.",
			Queries: []Query{{Expr: rate(requests, "upstream_host", "code"), Legend: "{{upstream_host}} {{code}}"}},
		},
		{
			Title: "Upstream reachable", Kind: Graph, Unit: UnitNone, Width: 8,
			Meaning: "Whether the upstream responds to all replicas: 1 if it does, 0 if not.",
			Queries: []Query{{Expr: "min by (upstream_host) (registry_proxy_upstream_up" + selected() + ")", Legend: "{{upstream_host}}"}},
		},
		{
			Title: "Failed fetches", Kind: Graph, Unit: UnitOperations, Width: 8,
			Meaning: "Fetches of manifests and blobs that failed, by reason.",
			Queries: []Query{{Expr: rate("registry_proxy_fill_errors_total"+selected(), "upstream_host", "reason"), Legend: "{{upstream_host}} {{reason}}"}},
		},
		{
			Title: "Rate limit left", Kind: Graph, Unit: UnitRatio, Width: 8,
			Meaning: "Part of the allowed requests that is left, if the upstream reports it.",
			Queries: []Query{{
				Expr:   "min by (upstream_host, pod) (registry_proxy_upstream_rate_limit_remaining" + selected() + " / (registry_proxy_upstream_rate_limit" + selected() + " > 0))",
				Legend: "{{upstream_host}} {{pod}}",
			}},
		},
		{
			Title: "Unvalidated tags", Kind: Graph, Unit: UnitOperations, Width: 8,
			Meaning: "Tags served from the cache without asking the upstream, by reason.",
			Queries: []Query{{Expr: rate("registry_proxy_stale_tags_total"+selected(), "upstream_host", "reason"), Legend: "{{upstream_host}} {{reason}}"}},
		},
	}}
}

func storageRow() Row {
	return Row{Title: "Storage", Panels: []Panel{
		{
			Title: "Volume", Kind: Graph, Unit: UnitBytes, Width: 8,
			Meaning: "Size of each volume and its free space.",
			Queries: []Query{{Expr: "max by (pod, state) (registry_proxy_volume_bytes" + selected() + ")", Legend: "{{pod}} {{state}}"}},
		},
		{
			Title: "Cached content", Kind: Graph, Unit: UnitBytes, Width: 8,
			Meaning: "Content on each volume.",
			Queries: []Query{{Expr: "max by (pod) (registry_proxy_storage_used_bytes" + selected() + ")", Legend: "{{pod}}"}},
		},
		{
			Title: "Removed content", Kind: Graph, Unit: UnitBytesRate, Width: 8,
			Meaning: "Content removed from volumes, by reason: expired for its age, evicted for space.",
			Queries: []Query{{Expr: rate("registry_proxy_removed_bytes_total"+selected(), "upstream_host", "reason"), Legend: "{{upstream_host}} {{reason}}"}},
		},
		{
			Title: "Not stored", Kind: Graph, Unit: UnitOperations, Width: 12,
			Meaning: "Fetches that were passed on without storing them, for lack of space.",
			Queries: []Query{{Expr: rate("registry_proxy_unstored_total"+selected(), "pod"), Legend: "{{pod}}"}},
		},
		{
			Title: "Corrupt content", Kind: Graph, Unit: UnitOperations, Width: 12,
			Meaning: "Stored content that did not match its digest. It was dropped.",
			Queries: []Query{{Expr: rate("registry_proxy_corrupt_total"+selected(), "pod"), Legend: "{{pod}}"}},
		},
	}}
}

func credentialsRow() Row {
	return Row{Title: "Credentials and certificates", Panels: []Panel{
		{
			Title: "Credential rejected", Kind: Stat, Unit: UnitNone, Width: 6,
			Meaning: "Whether the upstream rejects the configured credential of a replica: 1 if it does.",
			Queries: []Query{{Expr: "max by (pod) (registry_proxy_credentials_rejected" + selected() + ")", Legend: "{{pod}}"}},
		},
		{
			Title: "Credential active", Kind: Stat, Unit: UnitFromNow, Width: 6,
			Meaning: "When the upstream accepted the credential in use.",
			Queries: []Query{{Expr: "1000 * max by (pod) (registry_proxy_credentials_active_since_seconds" + selected() + " > 0)", Legend: "{{pod}}"}},
		},
		{
			Title: "Credential pending", Kind: Stat, Unit: UnitSeconds, Width: 6,
			Meaning: "How long a new credential has been waiting to be accepted; 0 if there is none.",
			Queries: []Query{{
				Expr: "time() - max by (pod) (registry_proxy_credentials_pending_since_seconds" + selected() + " > 0)" +
					" or max by (pod) (registry_proxy_credentials_pending_since_seconds" + selected() + " == 0)",
				Legend: "{{pod}}",
			}},
		},
		{
			Title: "Certificate expires", Kind: Stat, Unit: UnitFromNow, Width: 6,
			Meaning: "When the certificate of a replica expires.",
			Queries: []Query{{Expr: "1000 * min by (pod) (registry_proxy_certificate_expiry_seconds" + selected() + " > 0)", Legend: "{{pod}}"}},
		},
	}}
}

func repositoriesRow() Row {
	fetches := inRange("registry_proxy_repository_fetches_total"+selected(), "upstream_host", "repository")
	labels := []string{"upstream_host", "repository"}
	return Row{Title: "Repositories", Panels: []Panel{
		{
			Title: "Slowest repositories", Kind: Table, Unit: UnitSeconds, Width: 8, Labels: labels,
			Meaning: "Average duration of a fetch, for the ten slowest repositories.",
			Queries: []Query{{Expr: "topk(10, " + inRange("registry_proxy_repository_fetch_seconds_total"+selected(), labels...) + " / (" + fetches + " > 0))"}},
		},
		{
			Title: "Largest repositories", Kind: Table, Unit: UnitBytes, Width: 8, Labels: labels,
			Meaning: "Content fetched from the upstream, for the ten largest repositories.",
			Queries: []Query{{Expr: "topk(10, " + inRange("registry_proxy_repository_pulled_bytes_total"+selected(), labels...) + ")"}},
		},
		{
			Title: "Most served repositories", Kind: Table, Unit: UnitBytes, Width: 8, Labels: labels,
			Meaning: "Content sent to clients, for the ten repositories with the most of it.",
			Queries: []Query{{Expr: "topk(10, " + inRange("registry_proxy_repository_pushed_bytes_total"+selected(), labels...) + ")"}},
		},
	}}
}

func transfersRow() Row {
	return Row{Title: "Transfers", Panels: []Panel{
		{
			Title: "Active transfers", Kind: Graph, Unit: UnitNone, Width: 8,
			Meaning: "Blobs that are being fetched or verified while clients read them.",
			Queries: []Query{{Expr: sum("registry_proxy_active_transfers"+selected(), "pod"), Legend: "{{pod}}"}},
		},
		{
			Title: "Duration of fetches", Kind: Graph, Unit: UnitSeconds, Width: 8,
			Meaning: "Time until a blob is stored.",
			Queries: []Query{
				{Expr: quantile("0.5", "registry_proxy_fill_duration_seconds_bucket"+selected(), "upstream_host"), Legend: "{{upstream_host}} 50 %"},
				{Expr: quantile("0.95", "registry_proxy_fill_duration_seconds_bucket"+selected(), "upstream_host"), Legend: "{{upstream_host}} 95 %"},
			},
		},
		{
			Title: "Resumed fetches", Kind: Graph, Unit: UnitOperations, Width: 8,
			Meaning: "Fetches that continued after an interruption.",
			Queries: []Query{{Expr: rate("registry_proxy_resumed_total"+selected(), "pod"), Legend: "{{pod}}"}},
		},
	}}
}

func serverRow() Row {
	return Row{Title: "Servers", Panels: []Panel{
		{
			Title: "Memory", Kind: Graph, Unit: UnitBytes, Width: 8,
			Meaning: "Resident memory of each replica.",
			Queries: []Query{{Expr: "max by (pod) (process_resident_memory_bytes" + selected(`job="`+Job+`"`) + ")", Legend: "{{pod}}"}},
		},
		{
			Title: "CPU", Kind: Graph, Unit: UnitCores, Width: 8,
			Meaning: "CPU cores that each replica uses.",
			Queries: []Query{{Expr: rate("process_cpu_seconds_total"+selected(`job="`+Job+`"`), "pod"), Legend: "{{pod}}"}},
		},
		{
			Title: "Replicas", Kind: Graph, Unit: UnitNone, Width: 8,
			Meaning: "Replicas that should run, and those that respond.",
			Queries: []Query{
				{Expr: DesiredReplicas + `{upstream_host=~"$upstream_host"}`, Legend: "{{upstream_host}} desired"},
				{Expr: UpReplicas + `{upstream_host=~"$upstream_host"}`, Legend: "{{upstream_host}} up"},
			},
		},
		{
			Title: "Responses", Kind: Graph, Unit: UnitRequests, Width: 12,
			Meaning: "Responses to clients by status.",
			Queries: []Query{{Expr: rate("registry_http_requests_total"+selected(), "upstream_host", "code"), Legend: "{{upstream_host}} {{code}}"}},
		},
		{
			Title: "Duration of requests", Kind: Graph, Unit: UnitSeconds, Width: 12,
			Meaning: "Time until the last byte of a response, for 95 % of the requests, by kind.",
			Queries: []Query{{Expr: quantile("0.95", "registry_http_request_duration_seconds_bucket"+selected(), "handler"), Legend: "{{handler}}"}},
		},
	}}
}
