// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/json"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/controller/readiness"
)

// collectTimeout bounds the time of a scrape. Reads from the cache of the manager wait only until it is filled.
const collectTimeout = 5 * time.Second

// unknownReason is the label of caches that cannot be observed, or have not been yet.
const unknownReason = "Unknown"

var (
	shootsDescription = prometheus.NewDesc("registry_cache_shoots", "Number of Shoots in the seed that have registry caches.", nil, nil)
	cachesDescription = prometheus.NewDesc("registry_cache_caches",
		"Number of registry caches in the seed, by the reason of their condition Ready; Unknown if the condition is unknown.", []string{"reason"}, nil)
)

// Collector counts the caches of a seed when Prometheus asks, from what the manager has in memory anyway.
type Collector struct {
	// Reader reads Extensions from memory.
	Reader client.Reader
	// Counts selects the Extensions that count.
	Counts predicate.Predicate
	// Elected is closed once this process is the leader. The others return nothing, so that sums over all processes are
	// right.
	Elected <-chan struct{}
}

var _ prometheus.Collector = (*Collector)(nil)

// Describe implements prometheus.Collector.
func (*Collector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- shootsDescription
	descriptions <- cachesDescription
}

// Collect implements prometheus.Collector. It returns nothing while the Extensions cannot be read: a gap is better than
// wrong numbers, and an error would hide all other metrics.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	select {
	case <-c.Elected:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	list := &extensionsv1alpha1.ExtensionList{}
	// Nothing here changes the objects, and copies of all of them would be garbage at once.
	if err := c.Reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	shoots, caches := c.count(list.Items)
	metrics <- prometheus.MustNewConstMetric(shootsDescription, prometheus.GaugeValue, float64(shoots))
	for reason, number := range caches {
		metrics <- prometheus.MustNewConstMetric(cachesDescription, prometheus.GaugeValue, float64(number), reason)
	}
}

// count returns the number of Extensions, and of their caches by reason. All reasons are present, since a series that
// starts with its first problem hides that from an alert on an increase.
func (c *Collector) count(extensions []extensionsv1alpha1.Extension) (shoots int, caches map[string]int) {
	caches = map[string]int{unknownReason: 0}
	for _, reason := range append(readiness.Problems(), readiness.Ready, readiness.Degraded, readiness.ContentTooLarge, readiness.AwaitingNodes) {
		caches[string(reason)] = 0
	}
	for i := range extensions {
		ex := &extensions[i]
		if !c.Counts.Generic(event.GenericEvent{Object: ex}) {
			continue
		}
		shoots++
		for _, conditions := range conditionsOf(ex) {
			caches[label(conditions, caches)]++
		}
	}
	return shoots, caches
}

// conditionsOf returns the conditions of each cache. It decodes only these, since it runs for all Extensions of a seed.
func conditionsOf(ex *extensionsv1alpha1.Extension) [][]metav1.Condition {
	status := v1alpha3.RegistryStatus{}
	if ex.Status.ProviderStatus == nil || json.Unmarshal(ex.Status.ProviderStatus.Raw, &status) != nil {
		return nil
	}
	found := make([][]metav1.Condition, 0, len(status.Caches))
	for _, cache := range status.Caches {
		found = append(found, cache.Conditions)
	}
	return found
}

// label returns one of the known labels for a cache, whatever another version has written.
func label(conditions []metav1.Condition, known map[string]int) string {
	condition := meta.FindStatusCondition(conditions, registry.ConditionReady)
	if condition == nil || condition.Status == metav1.ConditionUnknown {
		return unknownReason
	}
	if _, isKnown := known[condition.Reason]; isKnown {
		return condition.Reason
	}
	return unknownReason
}
