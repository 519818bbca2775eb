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
	// sampleLimit bounds the samples of one replica. One with all its repositories and the maximum of 256 scopes of rate
	// limits has fewer than 1,500.
	sampleLimit = 2500
	// bodySizeLimit bounds the response of one replica before it is parsed.
	bodySizeLimit = "4MB"

	apiServer = v1beta1constants.DeploymentNameKubeAPIServer
)

// allowedMetrics are patterns of the metrics that Prometheus stores, apart from those that it adds for each target.
func allowedMetrics() []string {
	return []string{
		"registry_proxy_.+",
		"registry_http_requests_total",
		"registry_http_in_flight_requests",
		"registry_http_request_duration_seconds_(bucket|sum|count)",
		"process_cpu_seconds_total",
		"process_resident_memory_bytes",
		"process_start_time_seconds",
	}
}

// podLabels are the labels of pods that become labels of metrics. Others are left out, since owners can add any number.
func podLabels() []string {
	return []string{"app", "app_kubernetes_io_name", "statefulset_kubernetes_io_pod_name", "upstream_host"}
}

// ScrapeConfig makes the Prometheus of the Shoot scrape the caches through the API server of the Shoot. A pod is a
// target only if it has the name, the upstream, the container and the port of a replica, so there are at most as many
// targets as replicas.
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
			HonorLabels:     new(false),
			HonorTimestamps: new(false),
			SampleLimit:     new(int64(sampleLimit)),
			BodySizeLimit:   new(monitoringv1.ByteSize(bodySizeLimit)),
			Scheme:          new(monitoringv1.SchemeHTTPS),
			TLSConfig:       insecure,
			Authorization:   token,
			KubernetesSDConfigs: []monitoringv1alpha1.KubernetesSDConfig{{
				Role:            monitoringv1alpha1.KubernetesRolePod,
				APIServer:       new("https://" + apiServer),
				FollowRedirects: new(false),
				Namespaces:      &monitoringv1alpha1.NamespaceDiscovery{Names: []string{component.Namespace}},
				Selectors:       []monitoringv1alpha1.K8SSelectorConfig{{Role: monitoringv1alpha1.KubernetesRolePod, Label: new(component.Selector)}},
				Authorization:   token,
				TLSConfig:       insecure,
			}},
			RelabelConfigs:       relabelConfigs(values),
			MetricRelabelConfigs: monitoringutils.StandardMetricRelabelConfig(allowedMetrics()...),
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
