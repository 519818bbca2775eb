// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	kubeapiserverconstants "github.com/gardener/gardener/pkg/component/kubernetes/apiserver/constants"
	monitoringutils "github.com/gardener/gardener/pkg/component/observability/monitoring/utils"
	gardenerutils "github.com/gardener/gardener/pkg/utils/gardener"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	component "github.com/larder-project/larder/pkg/component/cache"
)

const (
	// sampleLimit bounds the samples of one replica. One with the repositories at the top of all three orders (120
	// samples), the maximum of 256 scopes of rate limits (512), and all kinds and codes of requests has fewer.
	sampleLimit = 2000
	// bodySizeLimit bounds the response of one replica before it is parsed.
	bodySizeLimit = "4MB"
	// The limits of labels exceed those of any sample: ten of the target and up to four of the metric, of which the names
	// of repositories and nodes are the longest.
	labelLimit            = 20
	labelNameLengthLimit  = 64
	labelValueLengthLimit = 512

	apiServer = v1beta1constants.DeploymentNameKubeAPIServer
)

// scrapedMetrics are the metrics that Prometheus stores, apart from those that it adds for each target.
func scrapedMetrics() []string {
	histogram := "_(bucket|sum|count)"
	return []string{
		"process_cpu_seconds_total",
		"process_resident_memory_bytes",
		"process_start_time_seconds",
		"registry_http_in_flight_requests",
		"registry_http_request_duration_seconds" + histogram,
		"registry_http_requests_total",
		"registry_proxy_access_requests_total",
		"registry_proxy_active_transfers",
		"registry_proxy_bypassed_at_seconds",
		"registry_proxy_certificate_expiry_seconds",
		"registry_proxy_coalesced_total",
		"registry_proxy_corrupt_total",
		"registry_proxy_credentials_active_since_seconds",
		"registry_proxy_credentials_expiry_seconds",
		"registry_proxy_credentials_pending_since_seconds",
		"registry_proxy_credentials_rejected",
		"registry_proxy_fill_duration_seconds" + histogram,
		"registry_proxy_fill_errors_total",
		"registry_proxy_hits_total",
		"registry_proxy_misses_total",
		"registry_proxy_outcomes_total",
		"registry_proxy_pulled_bytes_total",
		"registry_proxy_pushed_bytes_total",
		"registry_proxy_removed_bytes_total",
		"registry_proxy_removed_total",
		"registry_proxy_repository_fetch_seconds_total",
		"registry_proxy_repository_fetches_total",
		"registry_proxy_repository_pulled_bytes_total",
		"registry_proxy_repository_pushed_bytes_total",
		"registry_proxy_requests_total",
		"registry_proxy_resumed_total",
		"registry_proxy_saved_bytes_total",
		"registry_proxy_stale_tags_total",
		"registry_proxy_storage_used_bytes",
		"registry_proxy_store_errors_total",
		"registry_proxy_store_failed_at_seconds",
		"registry_proxy_unstored_total",
		"registry_proxy_upstream_rate_limit",
		"registry_proxy_upstream_rate_limit_remaining",
		"registry_proxy_upstream_request_duration_seconds" + histogram,
		"registry_proxy_upstream_requests_total",
		"registry_proxy_upstream_up",
		"registry_proxy_volume_bytes",
	}
}

// scrapedLabels are the labels of these metrics.
func scrapedLabels() []string {
	return []string{"code", "handler", "kind", "le", "method", "outcome", "reason", "repository", "result", "scope", "state", "type", "upstream"}
}

// targetLabels are the labels that Prometheus and relabelConfigs add.
func targetLabels() []string {
	return append(podLabels(), "__name__", "instance", "job", "node", "pod")
}

// podLabels are the labels of pods that become labels of metrics. Others are left out, since owners can add any number.
func podLabels() []string {
	return []string{"app", "app_kubernetes_io_name", "statefulset_kubernetes_io_pod_name", "upstream_host"}
}

// ScrapeConfig makes the Prometheus of the Shoot scrape the caches through the API server of the Shoot. A pod is a
// target only if it has the name, the upstream, the container and the port of a replica, so there are at most as many
// targets as replicas.
//
// The API server forwards a redirect of a pod, and Prometheus follows it: a ScrapeConfig cannot forbid that for scrapes,
// only for the discovery. What a pod can make Prometheus reach is up to the NetworkPolicies for Prometheus in the seed.
//
// It is not built with Gardener's ClusterComponentScrapeConfigSpec, since that adds a label type, which would rename the
// label of the same name of the caches' metrics.
func ScrapeConfig(values Values) *monitoringv1alpha1.ScrapeConfig {
	token := &monitoringv1.SafeAuthorization{Credentials: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: gardenerutils.SecretNamePrefixShootAccess + "prometheus-" + prometheusName},
		Key:                  resourcesv1alpha1.DataKeyToken,
	}}
	// The scrape configurations of Gardener do the same: the name of the Secret with the CA changes with its content, and
	// traffic to the API server stays in the namespace.
	insecure := &monitoringv1.SafeTLSConfig{InsecureSkipVerify: new(true)}

	return &monitoringv1alpha1.ScrapeConfig{
		ObjectMeta: configObjectMeta(values.Namespace),
		Spec: monitoringv1alpha1.ScrapeConfigSpec{
			HonorLabels:           new(false),
			HonorTimestamps:       new(false),
			SampleLimit:           new(int64(sampleLimit)),
			BodySizeLimit:         new(monitoringv1.ByteSize(bodySizeLimit)),
			LabelLimit:            new(int64(labelLimit)),
			LabelNameLengthLimit:  new(int64(labelNameLengthLimit)),
			LabelValueLengthLimit: new(int64(labelValueLengthLimit)),
			Scheme:                new(monitoringv1.SchemeHTTPS),
			TLSConfig:             insecure,
			Authorization:         token,
			KubernetesSDConfigs: []monitoringv1alpha1.KubernetesSDConfig{{
				Role:            monitoringv1alpha1.KubernetesRolePod,
				APIServer:       new("https://" + apiServer),
				FollowRedirects: new(false),
				Namespaces:      &monitoringv1alpha1.NamespaceDiscovery{Names: []string{component.Namespace}},
				Selectors:       []monitoringv1alpha1.K8SSelectorConfig{{Role: monitoringv1alpha1.KubernetesRolePod, Label: new(component.Selector)}},
				Authorization:   token,
				TLSConfig:       insecure,
			}},
			RelabelConfigs: relabelConfigs(values),
			MetricRelabelConfigs: append(monitoringutils.StandardMetricRelabelConfig(scrapedMetrics()...), monitoringv1.RelabelConfig{
				Action: "labelkeep",
				Regex:  strings.Join(append(targetLabels(), scrapedLabels()...), "|"),
			}),
		},
	}
}

// relabelConfigs names each action: if the API server adds the default, the object differs from the desired one, and is
// written again by every reconciliation.
func relabelConfigs(values Values) []monitoringv1.RelabelConfig {
	return []monitoringv1.RelabelConfig{
		{
			SourceLabels: []monitoringv1.LabelName{
				"__meta_kubernetes_pod_name",
				"__meta_kubernetes_pod_label_upstream_host",
				"__meta_kubernetes_pod_container_name",
				"__meta_kubernetes_pod_container_port_name",
			},
			Action: "keep",
			Regex:  replicaPattern(values.Caches) + ";" + component.ContainerName + ";" + component.DebugPortName,
		},
		{
			Action: "labelmap",
			Regex:  "__meta_kubernetes_pod_label_(" + strings.Join(podLabels(), "|") + ")",
		},
		{
			Action:      "replace",
			Replacement: new(Job),
			TargetLabel: "job",
		},
		{
			Action:       "replace",
			SourceLabels: []monitoringv1.LabelName{"__meta_kubernetes_pod_name"},
			TargetLabel:  "pod",
		},
		{
			Action:       "replace",
			SourceLabels: []monitoringv1.LabelName{"__meta_kubernetes_pod_node_name"},
			TargetLabel:  "node",
		},
		{
			Action:      "replace",
			TargetLabel: "__address__",
			Replacement: new(apiServer + ":" + strconv.Itoa(kubeapiserverconstants.Port)),
		},
		{
			Action:       "replace",
			SourceLabels: []monitoringv1.LabelName{"__meta_kubernetes_pod_name", "__meta_kubernetes_pod_container_port_number"},
			Regex:        "(.+);(.+)",
			TargetLabel:  "__metrics_path__",
			Replacement:  new("/api/v1/namespaces/" + component.Namespace + "/pods/${1}:${2}/proxy/metrics"),
		},
	}
}

// replicaPattern matches the name of a replica and, after a semicolon, the upstream of its cache.
func replicaPattern(caches []Cache) string {
	replicas := make([]string, 0, len(caches))
	for _, cache := range caches {
		ordinals := "0"
		if cache.Replicas > 1 {
			ordinals = fmt.Sprintf("[0-%d]", cache.Replicas-1)
		}
		replicas = append(replicas, regexp.QuoteMeta(cache.Upstream.ResourceName())+"-"+ordinals+";"+regexp.QuoteMeta(cache.Upstream.LabelValue()))
	}
	return "(" + strings.Join(replicas, "|") + ")"
}
