// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"context"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ReadCluster returns the Cluster of a Shoot without its CloudProfile and its Seed. No controller needs them, and they
// make up most of a Cluster: to decode them takes more than everything else in memory.
func ReadCluster(ctx context.Context, seed client.Reader, namespace string) (*extensionscontroller.Cluster, error) {
	cluster := &extensionsv1alpha1.Cluster{}
	if err := seed.Get(ctx, client.ObjectKey{Name: namespace}, cluster); err != nil {
		return nil, err
	}
	shoot, err := extensionscontroller.ShootFromCluster(cluster)
	if err != nil {
		return nil, err
	}
	return &extensionscontroller.Cluster{ObjectMeta: cluster.ObjectMeta, Shoot: shoot}, nil
}
