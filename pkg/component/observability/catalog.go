// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/larder-project/larder/pkg/cacheserver/status"
)

// Alert is an alert of a Shoot.
type Alert struct {
	// Name is the name of the alert. docs/alerts.md has a section of this name.
	Name string
	// Expr is the PromQL expression.
	Expr string
	// For is how long the expression must hold before the alert fires.
	For time.Duration
	// Summary is a short sentence, the same for all caches.
	Summary string
	// Description is a template with the labels and the value of the alert.
	Description string
}

// RecordingRule is a series that Prometheus computes.
type RecordingRule struct {
	// Name is the name of the series. Those like shoot:(.+):(.+) are federated to the Prometheus of the seed and of the
	// garden.
	Name string
	// Expr is the PromQL expression. It is empty if the value depends on the caches of the Shoot.
	Expr string
	// Unit is the unit of the value.
	Unit string
	// Meaning is a sentence for the documentation.
	Meaning string
}

const (
	// UpReplicas is the name of the series with the number of replicas that Prometheus can scrape.
	UpReplicas = "shoot:registry_cache_replicas:up"
	// DesiredReplicas is the name of the series with the number of replicas that should run. A replica without an IP
	// address is no target, so it cannot be noticed by its metrics.
	DesiredReplicas = "shoot:registry_cache_replicas:desired"
)

const (
	// ServedRequests is the name of the series with the requests that got their content.
	ServedRequests = "shoot:registry_proxy_served_requests_total:sum"
	// CachedRequests is the name of the series with those of them that were served from the cache: the hit ratio is the part
	// that they are.
	CachedRequests = "shoot:registry_proxy_cached_requests_total:sum"
)

// RecordingRules returns all recording rules. Their only label is upstream_host, which has as many values as the Shoot
// has caches.
func RecordingRules() []RecordingRule {
	counters := []struct{ metric, unit, meaning string }{
		{"requests", "requests/s", "Requests of clients for content."},
		{"hits", "requests/s", "Requests that started no fetch: served from the cache, or from a fetch that was running."},
		{"misses", "requests/s", "Requests for which content had to be fetched from the upstream."},
		{"pushed_bytes", "bytes/s", "Content sent to clients."},
		{"pulled_bytes", "bytes/s", "Content fetched from the upstream."},
		{"saved_bytes", "bytes/s", "Content sent to clients without fetching it again."},
	}
	rules := append(make([]RecordingRule, 0, 4+len(counters)),
		RecordingRule{
			Name: DesiredReplicas, Unit: "replicas",
			Meaning: "Replicas that should run.",
		},
		RecordingRule{
			Name: UpReplicas, Unit: "replicas",
			Expr:    `sum by (upstream_host) (up{job="` + Job + `"})`,
			Meaning: "Replicas that Prometheus can scrape.",
		},
		RecordingRule{
			Name: ServedRequests, Unit: "requests/s",
			Expr:    "sum by (upstream_host) (rate(" + outcomes + served() + "[5m]))",
			Meaning: "Requests for manifests and blobs that got their content.",
		},
		RecordingRule{
			Name: CachedRequests, Unit: "requests/s",
			Expr:    "sum by (upstream_host) (rate(" + outcomes + fromCache() + "[5m]))",
			Meaning: "Those of them that were served from the cache.",
		},
	)
	for _, r := range counters {
		rules = append(rules, RecordingRule{
			Name:    "shoot:registry_proxy_" + r.metric + "_total:sum",
			Expr:    "sum by (upstream_host) (rate(registry_proxy_" + r.metric + "_total[5m]))",
			Unit:    r.unit,
			Meaning: r.meaning,
		})
	}
	return rules
}

const (
	// minFree is the free part of a volume, in percent, below which a cache evicts. Less than that for long means that
	// eviction does not keep up, or that something else fills the volume.
	minFree = 10
	// volumes selects the metrics of kubelets about the volumes of caches.
	volumes = `{persistentvolumeclaim=~"cache-volume-registry-.+"}`
	// outcomes counts the requests of clients.
	outcomes = "registry_proxy_outcomes_total"
	// forScope names the first repository of a credential, nothing for that of all repositories.
	forScope = "{{ with $labels.scope }} for {{ . }}{{ end }}"
)

// failureWindow is how long failures count, as a duration of PromQL.
var failureWindow = model.Duration(status.FailureWindow).String()

// Alerts returns all alerts. None alone stops pulls of public images: nodes go on to the upstream when a cache does not
// serve them.
//
// The first two have the names, labels and durations of the other implementation, so that existing routes keep working.
func Alerts() []Alert {
	return []Alert{
		{
			Name:        "RegistryCachePersistentVolumeUsageCritical",
			Expr:        freePercent + ` < 5`,
			For:         time.Hour,
			Summary:     "Registry cache PersistentVolume almost full.",
			Description: `The volume {{ $labels.persistentvolumeclaim }} of a registry cache has only {{ $value | humanize }}% free space, although the cache evicts content below ` + percent(minFree) + `. Images that do not fit are still served, but not cached.`,
		},
		{
			Name: "RegistryCachePersistentVolumeFullInFourDays",
			Expr: fmt.Sprintf("%s < %d\nand\npredict_linear(kubelet_volume_stats_available_bytes%s[30m], 4 * 24 * 3600) <= 0",
				freePercent, minFree, volumes),
			For:         time.Hour,
			Summary:     "Registry cache PersistentVolume will be full in four days.",
			Description: `The volume {{ $labels.persistentvolumeclaim }} of a registry cache has {{ $value | humanize }}% free space and will be full in four days at the present rate: the cache cannot evict content fast enough.`,
		},
		{
			Name:        "RegistryCacheUpstreamUnreachable",
			Expr:        `max by (upstream_host, pod) (registry_proxy_upstream_up) == 0`,
			For:         5 * time.Minute,
			Summary:     "Registry cache cannot reach its upstream.",
			Description: `The upstream of the registry cache {{ $labels.upstream_host }} has been unreachable for {{ $labels.pod }} for at least 5 minutes. ` + status.OnlyCached,
		},
		{
			Name: "RegistryCacheRateLimitNearlyExhausted",
			// The cache drops a report of the upstream when its time window has passed.
			Expr:        fmt.Sprintf("min by (upstream_host, pod) (\n  registry_proxy_upstream_rate_limit_remaining / (registry_proxy_upstream_rate_limit > 0)\n) < %g", status.LowRateLimit),
			For:         5 * time.Minute,
			Summary:     "Registry cache has nearly used up the rate limit of its upstream.",
			Description: `The registry cache {{ $labels.upstream_host }} ({{ $labels.pod }}) has {{ $value | humanizePercentage }} of the requests left that its upstream allows. When they are used up, it serves only what it has until the limit resets; nodes ask the upstream themselves for the rest.`,
		},
		{
			Name:        "RegistryCacheRateLimitExceeded",
			Expr:        increased(`registry_proxy_upstream_requests_total{code="429"}`, failureWindow) + ` > 0`,
			Summary:     "Upstream limits the rate of a registry cache.",
			Description: `The upstream of the registry cache {{ $labels.upstream_host }} has rejected {{ $value | humanize }} requests of {{ $labels.pod }} within ` + failureWindow + ` because of its rate limit. ` + status.OnlyCached,
		},
		{
			Name:        "RegistryCacheCredentialRejected",
			Expr:        `max by (upstream_host, scope, pod) (registry_proxy_credentials_rejected) == 1`,
			For:         5 * time.Minute,
			Summary:     "Upstream rejects the credential of a registry cache.",
			Description: `The upstream of the registry cache {{ $labels.upstream_host }} rejects the configured credential` + forScope + ` ({{ $labels.pod }}). Create a Secret with a valid one and reference it in the Shoot.`,
		},
		{
			Name: "RegistryCacheCredentialRotationStuck",
			Expr: fmt.Sprintf("time() - max by (upstream_host, scope, pod) (registry_proxy_credentials_pending_since_seconds > 0) > %d",
				int(status.RotationTimeout.Seconds())),
			For:         5 * time.Minute,
			Summary:     "Credential of a registry cache remains a candidate.",
			Description: `The registry cache {{ $labels.upstream_host }} ({{ $labels.pod }}) has had a candidate for its credential` + forScope + ` for {{ $value | humanizeDuration }} that its upstream has not accepted. It uses the active one, which must stay valid until then.`,
		},
		{
			Name:        "RegistryCacheCredentialExpiresSoon",
			Expr:        `min by (upstream_host, scope, pod) (registry_proxy_credentials_expiry_seconds) - time() < 600`,
			For:         5 * time.Minute,
			Summary:     "Credential of a registry cache was not renewed in time.",
			Description: `The registry cache {{ $labels.upstream_host }} ({{ $labels.pod }}) cannot renew its credential` + forScope + `, which {{ if gt $value 0.0 }}expires in {{ $value | humanizeDuration }}{{ else }}has expired{{ end }}. Without one, the cache serves only what it has; nodes ask the upstream themselves for the rest.`,
		},
		{
			Name:        "RegistryCacheBypassesVolume",
			Expr:        isRecent("registry_proxy_bypassed_at_seconds") + "\nor\n" + isRecent("registry_proxy_store_failed_at_seconds"),
			For:         15 * time.Minute,
			Summary:     "Registry cache cannot store new content.",
			Description: `The registry cache {{ $labels.upstream_host }} ({{ $labels.pod }}) keeps fetching content that it cannot store, the last {{ $value | humanizeDuration }} ago, because it does not fit on the volume or because the volume has errors. It passes such content through, so each pull fetches it again.`,
		},
		{
			Name:        "RegistryCacheHitRatioCollapsed",
			Expr:        hitRatioCollapsed(),
			For:         30 * time.Minute,
			Summary:     "Registry cache serves far fewer requests from its content than before.",
			Description: `The registry cache {{ $labels.upstream_host }} has served {{ $value | humanizePercentage }} of the requests of the last hour from its content, less than half as many as in the day before.`,
		},
		{
			Name:        "RegistryCacheCertificateExpiresSoon",
			Expr:        fmt.Sprintf("min by (upstream_host, pod) (registry_proxy_certificate_expiry_seconds > 0) - time() < %d", int(status.CertificateMargin.Seconds())),
			For:         time.Hour,
			Summary:     "Certificate of a registry cache was not renewed in time.",
			Description: `The certificate of the registry cache {{ $labels.upstream_host }} ({{ $labels.pod }}) {{ if gt $value 0.0 }}expires in {{ $value | humanizeDuration }} and should have been renewed. When it has expired, nodes bypass the cache{{ else }}has expired, so nodes bypass the cache{{ end }}.`,
		},
		{
			Name:        "RegistryCacheReplicaMissing",
			Expr:        DesiredReplicas + " - (" + UpReplicas + " or 0 * " + DesiredReplicas + ") > 0",
			For:         15 * time.Minute,
			Summary:     "Registry cache lacks replicas.",
			Description: `The registry cache {{ $labels.upstream_host }} lacks {{ $value }} of its replicas: they do not run or do not respond. Without any replica, nodes ask the upstream themselves.`,
		},
		{
			Name: "RegistryCacheFetchesFailing",
			// An upstream that is or was unreachable has an alert of its own, and so have the other causes that are left out.
			Expr: fmt.Sprintf("%s > %d\nunless on (upstream_host, pod) min_over_time(registry_proxy_upstream_up[%s]) == 0",
				increased(`registry_proxy_fill_errors_total{reason!~"`+status.FailuresElsewhere+`"}`, failureWindow), status.ManyFailures, failureWindow),
			For:         5 * time.Minute,
			Summary:     "Registry cache fails to fetch content.",
			Description: `{{ $value | humanize }} fetches of the registry cache {{ $labels.upstream_host }} ({{ $labels.pod }}) have failed within ` + failureWindow + `. Nodes ask the upstream themselves for what the cache could not fetch.`,
		},
	}
}

// freePercent is the free part of each volume in percent, as the kubelets report it.
const freePercent = `100 * (
  kubelet_volume_stats_available_bytes` + volumes + `
    /
  kubelet_volume_stats_capacity_bytes` + volumes + `
)`

// hitRatioCollapsed compares the hit ratio of the last hour with the one of the day before. It requires some traffic in
// both: with few requests, a ratio is chance. Requests that got no content do not count, so that an outage of the upstream
// or requests for images that do not exist do not change the ratio.
func hitRatioCollapsed() string {
	const lastHour, dayBefore = "[1h]", "[1d] offset 1h"
	count := func(selector, window string) string {
		return "sum by (upstream_host) (increase(" + outcomes + selector + window + "))"
	}
	return fmt.Sprintf(`(
  %[1]s
    /
  %[2]s
)
< 0.5 * (
  %[3]s
    /
  %[4]s
)
and %[2]s > 100
and %[4]s > 1000`, count(fromCache(), lastHour), count(served(), lastHour), count(fromCache(), dayBefore), count(served(), dayBefore))
}

// fromCache and served select the requests that a hit ratio is the ratio of.
func fromCache(matchers ...string) string {
	return "{" + strings.Join(append(matchers, `outcome=~"`+status.OutcomesFromCache+`"`), ", ") + "}"
}

func served(matchers ...string) string {
	return "{" + strings.Join(append(matchers, `outcome!~"`+status.OutcomesUnserved+`"`), ", ") + "}"
}

// increased returns an expression for the increase of a counter within a window, by replica. A counter of errors appears
// with the first error, and increase does not count the first value of a series. So if a series is new, its value is the
// increase, unless the replica itself is new to Prometheus or could not be scraped then: its errors may be old.
func increased(counter, window string) string {
	return fmt.Sprintf(`sum by (upstream_host, pod) (
  (%[1]s unless %[1]s offset %[2]s and on (pod) up{job="%[3]s"} offset %[2]s == 1)
  or
  increase(%[1]s[%[2]s])
)`, counter, window, Job)
}

// isRecent returns an expression for a point in time within [status.UnstoredWindow]. It is about the distance, so that
// a replica whose clock is ahead cannot make an alert fire until the clock of Prometheus has caught up.
func isRecent(seconds string) string {
	return fmt.Sprintf("abs(time() - max by (upstream_host, pod) (%s > 0)) < %d", seconds, int(status.UnstoredWindow.Seconds()))
}

func percent(n int) string {
	return fmt.Sprintf("%d%%", n)
}
