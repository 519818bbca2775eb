// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/readiness"
)

// maxConfigs bounds the OperatingSystemConfigs of a Shoot that are read, of which there are two for each worker pool.
const maxConfigs = 500

// sharedRegistries returns the upstreams whose caches nodes use together with the hosts of others. It reads nothing if
// no cache serves only nodes.
func (r *Reconciler) sharedRegistries(ctx context.Context, namespace string, status *registry.RegistryStatus) (sets.Set[string], error) {
	if !slices.ContainsFunc(status.Caches, servesOnlyNodes) {
		return nil, nil
	}
	configs := &metav1.PartialObjectMetadataList{}
	configs.SetGroupVersionKind(extensionsv1alpha1.SchemeGroupVersion.WithKind(extensionsv1alpha1.OperatingSystemConfigResource + "List"))
	if err := r.Client.List(ctx, configs, client.InNamespace(namespace), client.Limit(maxConfigs)); err != nil {
		return nil, fmt.Errorf("list OperatingSystemConfigs: %w", err)
	}
	upstreams := sets.New[string]()
	for _, config := range configs.Items {
		var shared map[string]json.RawMessage
		// The webhook ignores an annotation that cannot be read as well.
		_ = json.Unmarshal([]byte(config.Annotations[registry.SharedRegistriesAnnotation]), &shared)
		for upstream := range shared {
			upstreams.Insert(upstream)
		}
	}
	return upstreams, nil
}

func servesOnlyNodes(cache registry.RegistryCacheStatus) bool {
	return cache.AccessMode == registry.AccessNodes
}

// nodesProblem returns the problem of a cache that serves only nodes, but to which they cannot present their
// certificate: Gardener's list of hosts has no field for it. While the cache waits for the certificates, it says that.
func nodesProblem(cache registry.RegistryCacheStatus, shared sets.Set[string]) readiness.Problem {
	switch {
	case servesOnlyNodes(cache) && shared.Has(cache.Upstream):
		return readiness.Problem{Reason: readiness.NodesUseUpstream, Message: "Nodes pull from the upstream: another extension configures hosts for it, " +
			"so nodes cannot present their certificate to the cache. Set access.mode to PullSecrets or Cluster, or remove the hosts of the other extension."}
	case cache.PendingAccessMode == registry.AccessNodes:
		return readiness.Problem{Reason: readiness.AwaitingNodes, Message: "The cache works, but the access mode Nodes takes effect only when all nodes have a client certificate: " +
			"after the next successful operation of the Shoot. Until then, the previous mode is in effect."}
	}
	return readiness.Problem{}
}
