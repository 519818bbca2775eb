// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"context"
	"fmt"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/upstream"
	"github.com/larder-project/larder/test/landscape"
)

// Counts are the hits and misses of a cache, for manifests and blobs together.
type Counts struct {
	Hits, Misses int
}

// Minus returns the difference to earlier counts.
func (c Counts) Minus(earlier Counts) Counts {
	return Counts{Hits: c.Hits - earlier.Hits, Misses: c.Misses - earlier.Misses}
}

// CachePods returns the pods of an upstream's cache.
func CachePods(ctx context.Context, c client.Client, host string) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	labels := client.MatchingLabels{"app": upstream.Upstream(host).ResourceName()}
	if err := c.List(ctx, list, client.InNamespace(metav1.NamespaceSystem), labels); err != nil {
		return nil, fmt.Errorf("list pods of the cache for %s: %w", host, err)
	}
	return list.Items, nil
}

// CacheCounts adds up the metrics of an upstream's cache.
func CacheCounts(ctx context.Context, l *landscape.Landscape, c client.Client, host string) (Counts, error) {
	restConfig, err := l.RESTConfig()
	if err != nil {
		return Counts{}, err
	}
	clientset, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return Counts{}, err
	}
	pods, err := CachePods(ctx, c, host)
	if err != nil {
		return Counts{}, err
	}

	var sum Counts
	for _, pod := range pods {
		page, err := clientset.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, fmt.Sprint(config.DebugPort), "/metrics", nil).DoRaw(ctx)
		if err != nil {
			return Counts{}, fmt.Errorf("read metrics of pod %s: %w", pod.Name, err)
		}
		counts, err := parseCounts(page)
		if err != nil {
			return Counts{}, fmt.Errorf("parse metrics of pod %s: %w", pod.Name, err)
		}
		sum.Hits += counts.Hits
		sum.Misses += counts.Misses
	}
	return sum, nil
}

func parseCounts(page []byte) (Counts, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return Counts{}, err
	}
	total := func(name string) int {
		var sum float64
		for _, metric := range families[name].GetMetric() {
			sum += metric.GetCounter().GetValue()
		}
		return int(sum)
	}
	return Counts{Hits: total("registry_proxy_hits_total"), Misses: total("registry_proxy_misses_total")}, nil
}
