// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
)

// AwaitGardenerAPI waits until the API server serves Gardener's API.
func AwaitGardenerAPI(ctx context.Context, l *landscape.Landscape) error {
	c, err := NewClient(l)
	if err != nil {
		return err
	}
	return poll(ctx, func() error {
		for _, api := range gardenerAPIs {
			service := &apiregistrationv1.APIService{}
			name := api + ".gardener.cloud"
			if err := c.Get(ctx, client.ObjectKey{Name: name}, service); err != nil {
				return err
			}
			if !available(service) {
				return fmt.Errorf("APIService %s is not available: %+v", name, service.Status.Conditions)
			}
		}
		return nil
	})
}

func available(service *apiregistrationv1.APIService) bool {
	return slices.ContainsFunc(service.Status.Conditions, func(c apiregistrationv1.APIServiceCondition) bool {
		return c.Type == apiregistrationv1.Available && c.Status == apiregistrationv1.ConditionTrue
	})
}

// NodeState returns nil if the node is ready, or the reason why it is not.
func NodeState(ctx context.Context, c client.Client) error {
	node := &corev1.Node{}
	if err := c.Get(ctx, client.ObjectKey{Name: landscape.NodeName}, node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("node is not ready: %s", condition.Message)
		}
	}
	return errors.New("node has not reported whether it is ready")
}

// AwaitNode waits until the node is ready.
func AwaitNode(ctx context.Context, l *landscape.Landscape) error {
	c, err := NewClient(l)
	if err != nil {
		return err
	}
	return poll(ctx, func() error { return NodeState(ctx, c) })
}

// nodeTimeout limits the time until the cluster and its node are ready.
const nodeTimeout = 5 * time.Minute

// poll calls a function until it succeeds or the timeout has passed.
func poll(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}
