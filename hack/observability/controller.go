// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/larder-project/larder/pkg/controller/extension"
	"github.com/larder-project/larder/pkg/controller/health"
)

// controllerMetrics returns the metrics that the controller has in addition to those of controller-runtime, sorted by
// name.
func controllerMetrics() ([]metric, error) {
	elected := make(chan struct{})
	close(elected)
	registry := prometheus.NewRegistry()
	if err := registry.Register(&health.Collector{Reader: emptySeed{}, Counts: predicate.Funcs{}, Elected: elected}); err != nil {
		return nil, err
	}
	extension.WaitingRetries.WithLabelValues("registry-cache") // A vector without labels has no metrics.
	if err := registry.Register(extension.WaitingRetries); err != nil {
		return nil, err
	}
	families, err := registry.Gather()
	if err != nil {
		return nil, err
	}
	metrics := make([]metric, 0, len(families))
	for _, family := range families {
		metrics = append(metrics, metricOf(family))
	}
	return metrics, nil
}

// emptySeed is a seed without Extensions.
type emptySeed struct{ client.Reader }

// List implements client.Reader.
func (emptySeed) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }
