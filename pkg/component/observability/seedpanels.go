// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability

import "github.com/larder-project/larder/pkg/cacheserver/status"

const (
	// aggregate and seed are the data sources of the Plutono of a seed: the Prometheus with the federated series of all
	// Shoots, and the one that scrapes extensions.
	aggregate = "prometheus-aggregate"
	seed      = "prometheus-seed"

	// controllerJob selects the metrics of the controller. Prometheus takes the name of the job from an annotation of its
	// pods.
	controllerJob = `job="gardener-extension-registry-cache"`
)

// SeedRows returns the rows of the dashboard of a seed.
func SeedRows() []Row {
	return []Row{shootsRow(), controllerRow()}
}

// SeedPanels returns all panels of the dashboard of a seed.
func SeedPanels() []Panel { return panelsOf(SeedRows()) }

func shootsRow() Row {
	total := func(name string) string { return "sum(shoot:registry_proxy_" + name + "_total:sum)" }
	return Row{Title: "Caches of all Shoots", Panels: []Panel{
		{
			Title: "Shoots", Kind: Stat, Unit: UnitNone, Width: 4, Datasource: seed,
			Meaning: "Shoots with caches.",
			Queries: []Query{{Expr: sum("registry_cache_shoots{" + controllerJob + "}")}},
		},
		{
			Title: "Caches", Kind: Stat, Unit: UnitNone, Width: 4, Datasource: aggregate,
			Meaning: "Caches of all Shoots.",
			Queries: []Query{{Expr: "count(" + DesiredReplicas + ")"}},
		},
		{
			Title: "Missing replicas", Kind: Stat, Unit: UnitNone, Width: 4, Datasource: aggregate,
			Meaning: "Replicas that should run, but do not respond.",
			Queries: []Query{{Expr: "sum(" + DesiredReplicas + ") - (sum(" + UpReplicas + ") or vector(0))"}},
		},
		{
			Title: status.TitleHitRatio, Kind: Stat, Unit: UnitRatio, Width: 4, Datasource: aggregate,
			Meaning: "Part of the served requests for manifests and blobs that were served from caches.",
			Queries: []Query{{Expr: "sum(" + CachedRequests + ") / sum(" + ServedRequests + ")"}},
		},
		{
			Title: "Saved", Kind: Stat, Unit: UnitBytesRate, Width: 4, Datasource: aggregate,
			Meaning: "Content sent to clients without fetching it again.",
			Queries: []Query{{Expr: total("saved_bytes")}},
		},
		{
			Title: "Alerts", Kind: Stat, Unit: UnitNone, Width: 4, Datasource: aggregate,
			Meaning: "Alerts that fire for the caches of all Shoots.",
			Queries: []Query{{Expr: `count(ALERTS{service="registry-cache-extension", alertstate="firing"}) or vector(0)`}},
		},
		{
			Title: "Traffic", Kind: Graph, Unit: UnitBytesRate, Width: 8, Datasource: aggregate,
			Meaning: "Content sent to clients, content fetched from upstreams, and content sent without fetching it again.",
			Queries: []Query{
				{Expr: total("pushed_bytes"), Legend: "served"},
				{Expr: total("pulled_bytes"), Legend: "fetched"},
				{Expr: total("saved_bytes"), Legend: "saved"},
			},
		},
		{
			Title: "Hit ratio by upstream", Kind: Graph, Unit: UnitRatio, Width: 8, Datasource: aggregate,
			Meaning: "Part of the served requests for manifests and blobs that were served from caches, for the ten upstreams with the most requests.",
			Queries: []Query{{
				Expr: "sum by (upstream_host) (" + CachedRequests + ")\n/\nsum by (upstream_host) (" + ServedRequests + ")\n" +
					"and\ntopk(10, sum by (upstream_host) (" + ServedRequests + "))",
				Legend: "{{upstream_host}}",
			}},
		},
		{
			Title: "Alerts by name", Kind: Graph, Unit: UnitNone, Width: 8, Datasource: aggregate,
			Meaning: "Alerts that fire for the caches of all Shoots, by name.",
			Queries: []Query{{Expr: `count by (alertname) (ALERTS{service="registry-cache-extension", alertstate="firing"})`, Legend: "{{alertname}}"}},
		},
		{
			Title: "Shoots with the most traffic", Kind: Table, Unit: UnitBytesRate, Width: 12, Datasource: aggregate,
			Labels:  []string{"cluster"},
			Meaning: "Content fetched from upstreams, for the ten Shoots with the most of it.",
			Queries: []Query{{Expr: "topk(10, sum by (cluster) (shoot:registry_proxy_pulled_bytes_total:sum))"}},
		},
		{
			Title: "Caches by condition", Kind: Graph, Unit: UnitNone, Width: 12, Datasource: seed,
			Meaning: "Caches by the reason of their condition Ready.",
			Queries: []Query{{Expr: "sum by (reason) (registry_cache_caches{" + controllerJob + "})", Legend: "{{reason}}"}},
		},
	}}
}

func controllerRow() Row {
	ofController := func(metric string) string { return metric + "{" + controllerJob + "}" }
	return Row{Title: "Controller", Panels: []Panel{
		{
			Title: "Reconciliations", Kind: Graph, Unit: UnitOperations, Width: 8, Datasource: seed,
			Meaning: "Reconciliations by controller and result.",
			Queries: []Query{{Expr: rate(ofController("controller_runtime_reconcile_total"), "controller", "result"), Legend: "{{controller}} {{result}}"}},
		},
		{
			Title: "Reconciliation errors", Kind: Graph, Unit: UnitOperations, Width: 8, Datasource: seed,
			Meaning: "Reconciliations that failed, mistakes of owners included.",
			Queries: []Query{{Expr: rate(ofController("controller_runtime_reconcile_errors_total"), "controller"), Legend: "{{controller}}"}},
		},
		{
			Title: "Duration of reconciliations", Kind: Graph, Unit: UnitSeconds, Width: 8, Datasource: seed,
			Meaning: "Duration of 95 % of the reconciliations.",
			Queries: []Query{{Expr: quantile("0.95", ofController("controller_runtime_reconcile_time_seconds_bucket"), "controller"), Legend: "{{controller}}"}},
		},
		{
			Title: "Work queue", Kind: Graph, Unit: UnitNone, Width: 8, Datasource: seed,
			Meaning: "Objects that wait for their reconciliation, and Extensions that wait for their next one after a failure.",
			Queries: []Query{
				{Expr: sum(ofController("workqueue_depth"), "name"), Legend: "{{name}}"},
				{Expr: sum(ofController("registry_cache_waiting_retries"), "controller"), Legend: "{{controller}} retries"},
			},
		},
		{
			Title: "Webhook requests", Kind: Graph, Unit: UnitRequests, Width: 8, Datasource: seed,
			Meaning: "Requests to the webhooks for OperatingSystemConfigs, by status.",
			Queries: []Query{{Expr: rate(ofController("controller_runtime_webhook_requests_total"), "webhook", "code"), Legend: "{{webhook}} {{code}}"}},
		},
		{
			Title: "Memory", Kind: Graph, Unit: UnitBytes, Width: 4, Datasource: seed,
			Meaning: "Resident memory of each replica of the controller.",
			Queries: []Query{{Expr: ofController("process_resident_memory_bytes"), Legend: "{{instance}}"}},
		},
		{
			Title: "CPU", Kind: Graph, Unit: UnitCores, Width: 4, Datasource: seed,
			Meaning: "CPU cores that each replica of the controller uses.",
			Queries: []Query{{Expr: rate(ofController("process_cpu_seconds_total"), "instance"), Legend: "{{instance}}"}},
		},
	}}
}
