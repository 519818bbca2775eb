// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package observability has the objects that observe the caches of a Shoot: what Prometheus scrapes, the rules and
// alerts, and the dashboards. Catalogs of alerts, recording rules and panels are the source of the objects, of the
// dashboard in the chart and of docs/observability.md.
//
// An owner controls what pods of a Shoot report, while Prometheus runs in the seed. So metrics and labels are those of the
// caches only, and targets, samples, labels and the series of each rule have limits. These bound a scrape, but not what
// changes from scrape to scrape: a forged replica can report other values of labels each time, such as of repository, and
// Prometheus keeps each as a series for some hours. The Prometheus is that of the owner's Shoot alone, with a volume and
// resources of its own.
package observability

import (
	monitoringutils "github.com/gardener/gardener/pkg/component/observability/monitoring/utils"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// Job is the name of the scrape job. It is the label job of all metrics of caches.
	Job = "registry-cache-metrics"

	// prometheusName is the name of the Prometheus of a Shoot, which selects objects by it.
	prometheusName = "shoot"
	// componentName is the name of the component in labels and names of objects.
	componentName = "registry-cache"
)

// Values are all inputs for the objects of one Shoot.
type Values struct {
	// Namespace is the namespace of the Shoot in the seed.
	Namespace string
	// Caches are the caches of the Shoot.
	Caches []Cache
}

// Cache is a cache to observe.
type Cache struct {
	// Upstream is the upstream of the cache.
	Upstream upstream.Upstream
	// Replicas is the number of replicas that should run.
	Replicas int32
}

// Objects returns the objects to deploy in the namespace of the Shoot in the seed.
func Objects(values Values) ([]client.Object, error) {
	dashboard, err := DashboardConfigMap(values.Namespace)
	if err != nil {
		return nil, err
	}
	return []client.Object{ScrapeConfig(values), PrometheusRule(values), dashboard}, nil
}

// configObjectMeta returns the metadata of an object that configures the Prometheus of the Shoot.
func configObjectMeta(namespace string) metav1.ObjectMeta {
	meta := monitoringutils.ConfigObjectMeta(componentName, namespace, prometheusName)
	meta.Labels["component"] = componentName
	return meta
}
