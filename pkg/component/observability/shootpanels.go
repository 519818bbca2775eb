// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability

import "github.com/larder-project/larder/pkg/cacheserver/status"

// Rows returns the rows of the dashboard of a Shoot.
func Rows() []Row {
	return []Row{firstRow(), requestsRow(), upstreamRow(), storageRow(), credentialsRow(), repositoriesRow(), transfersRow(), serverRow()}
}

// Panels returns all panels of the dashboard of a Shoot.
func Panels() []Panel { return panelsOf(Rows()) }

// firstRow has the numbers with which the status page begins as well, in the same order.
func firstRow() Row {
	panels := map[string]Panel{
		status.TitleHitRatio: {
			Unit:    UnitRatio,
			Meaning: "Part of the served requests for manifests and blobs that were served from the cache.",
			Queries: []Query{{Expr: hitRatio(inRange)}},
		},
		status.TitleBytesSaved: {
			Unit:    UnitBytes,
			Meaning: "Content sent to clients without fetching it again.",
			Queries: []Query{{Expr: inRange("registry_proxy_saved_bytes_total" + selected())}},
		},
		status.TitleUpstreamLatency: {
			Unit:    UnitSeconds,
			Meaning: "Median of the time until the header of a response.",
			Queries: []Query{{Expr: "histogram_quantile(0.5, " + inRange("registry_proxy_upstream_request_duration_seconds_bucket"+selected(), "le") + ")"}},
		},
		status.TitleFailedFetches: {
			Unit:    UnitNone,
			Meaning: "Fetches of manifests and blobs that failed since the replicas started, apart from those that the upstream refused or that nothing needed any longer.",
			Queries: []Query{{Expr: sum(failures()) + " or vector(0)"}}, // The series of a reason may be new.
		},
		status.TitleRateLimit: {
			Unit:    UnitRatio,
			Meaning: "Lowest part of the allowed requests that is left, if an upstream reports it.",
			Queries: []Query{{Expr: "min(" + rateLimitLeft() + ")"}},
		},
	}
	row := Row{Title: "Overview"}
	for _, title := range status.FirstRow() {
		panel := panels[title]
		panel.Title, panel.Kind, panel.Width = title, Stat, 4
		row.Panels = append(row.Panels, panel)
	}
	row.Panels = append(row.Panels, Panel{
		Title: "Alerts", Kind: Stat, Unit: UnitNone, Width: 4,
		Meaning: "Alerts that fire for all caches of the Shoot, whichever are selected.",
		Queries: []Query{{Expr: `count(ALERTS{service="registry-cache-extension", alertstate="firing"}) or vector(0)`}},
	})
	return row
}

// failures selects the failed fetches that nothing else shows.
func failures() string {
	return "registry_proxy_fill_errors_total" + selected(`reason!~"`+status.FailuresElsewhere+`"`)
}

func rateLimitLeft() string {
	return "registry_proxy_upstream_rate_limit_remaining" + selected() + " / (registry_proxy_upstream_rate_limit" + selected() + " > 0)"
}

func requestsRow() Row {
	pushed, pulled, saved := "registry_proxy_pushed_bytes_total"+selected(), "registry_proxy_pulled_bytes_total"+selected(), "registry_proxy_saved_bytes_total"+selected()
	return Row{Title: "Requests", Panels: []Panel{
		{
			Title: "Requests", Kind: Graph, Unit: UnitRequests, Width: 8,
			Meaning: "Requests of clients for manifests and blobs, by the outcome that the log names.",
			Queries: []Query{{Expr: rate(outcomes+selected(), "outcome"), Legend: "{{outcome}}"}},
		},
		{
			Title: "Hit ratio by cache", Kind: Graph, Unit: UnitRatio, Width: 8,
			Meaning: "Part of the served requests for manifests and blobs that were served from the cache.",
			Queries: []Query{{Expr: hitRatio(rate, "upstream_host"), Legend: "{{upstream_host}}"}},
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
			Title: "Latency by cache", Kind: Graph, Unit: UnitSeconds, Width: 8,
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
			Title: "Failed fetches by reason", Kind: Graph, Unit: UnitOperations, Width: 8,
			Meaning: "Fetches of manifests and blobs that failed, apart from those that the upstream refused or that nothing needed any longer.",
			Queries: []Query{{Expr: rate(failures(), "upstream_host", "reason"), Legend: "{{upstream_host}} {{reason}}"}},
		},
		{
			Title: "Rate limit left", Kind: Graph, Unit: UnitRatio, Width: 8,
			Meaning: "Part of the allowed requests that is left, if the upstream reports it.",
			Queries: []Query{{
				Expr:   "min by (upstream_host, pod) (" + rateLimitLeft() + ")",
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
			Meaning: "Fetches that were passed through without storing them, for lack of space or because of another error.",
			Queries: []Query{
				{Expr: rate("registry_proxy_unstored_total"+selected(), "pod"), Legend: "{{pod}} space"},
				{Expr: rate("registry_proxy_store_errors_total"+selected(), "pod"), Legend: "{{pod}} error"},
			},
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
			Title: "Credential rejected", Kind: Stat, Unit: UnitNone, Width: 5,
			Meaning: "Whether the upstream rejects the credential of a replica, active or candidate: 1 if it does.",
			Queries: []Query{{Expr: "max by (pod, scope) (registry_proxy_credentials_rejected" + selected() + ")", Legend: "{{pod}} {{scope}}"}},
		},
		{
			Title: "Credential active", Kind: Stat, Unit: UnitFromNow, Width: 5,
			Meaning: "When the upstream accepted the active credential.",
			Queries: []Query{{Expr: "1000 * max by (pod, scope) (registry_proxy_credentials_active_since_seconds" + selected() + " > 0)", Legend: "{{pod}} {{scope}}"}},
		},
		{
			Title: "Candidate pending", Kind: Stat, Unit: UnitSeconds, Width: 5,
			Meaning: "How long a candidate has been waiting to be accepted; 0 if there is none.",
			Queries: []Query{{
				Expr: "time() - max by (pod, scope) (registry_proxy_credentials_pending_since_seconds" + selected() + " > 0)" +
					" or max by (pod, scope) (registry_proxy_credentials_pending_since_seconds" + selected() + " == 0)",
				Legend: "{{pod}} {{scope}}",
			}},
		},
		{
			Title: "Credential expires", Kind: Stat, Unit: UnitFromNow, Width: 5,
			Meaning: "When the active credential expires, if a cloud issued it.",
			Queries: []Query{{Expr: "1000 * min by (pod, scope) (registry_proxy_credentials_expiry_seconds" + selected() + ")", Legend: "{{pod}} {{scope}}"}},
		},
		{
			Title: "Certificate expires", Kind: Stat, Unit: UnitFromNow, Width: 4,
			Meaning: "When the certificate of a replica expires.",
			Queries: []Query{{Expr: "1000 * min by (pod) (registry_proxy_certificate_expiry_seconds" + selected() + " > 0)", Legend: "{{pod}}"}},
		},
		{
			Title: "Access", Kind: Graph, Unit: UnitRequests, Width: 24,
			Meaning: "Requests to caches with restricted access, by decision.",
			Queries: []Query{{Expr: rate("registry_proxy_access_requests_total"+selected(), "upstream_host", "result"), Legend: "{{upstream_host}} {{result}}"}},
		},
	}}
}

// repositoriesRow has totals, since the series of a repository appears when it becomes one of those with the most, and
// increase does not count the first value of a series.
func repositoriesRow() Row {
	labels := []string{"upstream_host", "repository"}
	const since = " since the replicas started, for the ten repositories with the most of it."
	of := func(metric string) string { return sum("registry_proxy_repository_"+metric+selected(), labels...) }
	return Row{Title: "Repositories", Panels: []Panel{
		{
			Title: status.TitleByBytesServed, Kind: Table, Unit: UnitBytes, Width: 8, Labels: labels,
			Meaning: "Content sent to clients" + since,
			Queries: []Query{{Expr: "topk(10, " + of("pushed_bytes_total") + ")"}},
		},
		{
			Title: status.TitleByBytesFetched, Kind: Table, Unit: UnitBytes, Width: 8, Labels: labels,
			Meaning: "Content fetched from the upstream" + since,
			Queries: []Query{{Expr: "topk(10, " + of("pulled_bytes_total") + ")"}},
		},
		{
			Title: status.TitleByFetchTime, Kind: Table, Unit: UnitSeconds, Width: 8, Labels: labels,
			Meaning: "Mean duration of a fetch since the replicas started, for the ten repositories with the longest.",
			Queries: []Query{{Expr: "topk(10, " + of("fetch_seconds_total") + " / (" + of("fetches_total") + " > 0))"}},
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
