// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"github.com/gardener/gardener/pkg/utils/kubernetes/health"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
)

// A cache and the nodes change to the access mode Nodes, and back, one after the other: a node without a certificate
// could not pull what only the credential of the cache allows.
//
// A cache that serves others so far goes on doing so until all nodes present a certificate. The nodes present it to all
// caches with TLS, which ask for it only in that mode. The [Janitor] requests the reconciliation in which the mode
// takes effect. A new cache starts with it, since no node relies on it.
//
// In the other direction, the nodes keep their certificate until no replica asks for it.

const (
	// awaitingNodesLabel on the ManagedResource of the caches has the creation time, in Unix seconds, of the
	// certificate that the nodes have to get, or notAwaitingNodes.
	awaitingNodesLabel = "registry.extensions.gardener.cloud/awaiting-nodes-since"
	notAwaitingNodes   = "none"
)

// deployedAccess returns the access to the caches that are to serve only nodes, by the names of the caches, as last
// deployed: the new configuration has no durations of grants, so while such a cache waits, it would restart with the
// defaults, and let revoked pull secrets pull for longer than its owner has allowed.
func (a *Actuator) deployedAccess(ctx context.Context, namespace string, caches []deployment) (map[string]registry.Access, error) {
	if !slices.ContainsFunc(caches, deployment.onlyForNodes) {
		return nil, nil
	}
	deployed, err := a.deployedObjects(ctx, namespace)
	if err != nil {
		return nil, err
	}
	found := map[string]registry.Access{}
	for _, cache := range caches {
		objects := deployed[cache.Name()]
		if !cache.onlyForNodes() || len(objects) == 0 {
			continue
		}
		if found[cache.Name()], err = component.AccessOf(objects); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// awaitNodes makes the cache serve those that it has served so far until the nodes have certificates for which it may
// ask.
func (d *deployment) awaitNodes(deployed map[string]registry.Access, issued certificates) {
	before, exists := deployed[d.Name()]
	d.awaitsNodes = d.Deployed == nil && d.onlyForNodes() && exists && before.Mode != registry.AccessNodes && !issued.onNodes
	switch {
	case !d.awaitsNodes:
	case before.Mode == registry.AccessPullSecrets:
		d.Cache.Access = &before
	default:
		d.Cache.Access, d.Cache.Accounts = nil, nil
	}
}

// keepsNodeCertificate reports whether the nodes have to keep their certificate because caches may still ask for it
// that were changed in this reconciliation or just before it.
func (a *Actuator) keepsNodeCertificate(ctx context.Context, namespace string, found observed) (bool, error) {
	if !found.status.nodeCertificate {
		return false, nil
	}
	for _, status := range found.status.caches {
		if status.AccessMode == registry.AccessNodes {
			return true, nil
		}
	}
	managedResource := newManagedResource(namespace, ManagedResource)
	if err := a.Client.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read ManagedResource %s: %w", ManagedResource, err)
	}
	if health.CheckManagedResourceProgressing(managedResource) != nil {
		return true, nil // A replica may be unable to follow the others.
	}
	since, err := a.deployedSince(ctx, namespace)
	if client.IgnoreNotFound(err) != nil {
		return false, err
	}
	return since.IsZero() || a.Clock.Since(since) < certificatePropagation, nil
}

// nodesHaveCertificate reports whether all nodes have a certificate that was created at the given time. A successful
// operation of gardenlet shows that in each phase of a rotation: it waits until all nodes have applied their files, and
// those that wait for their rollout still get them. [nodesHave] cannot rely on it, since the Cluster does not show it
// while gardenlet reconciles the Extension.
func nodesHaveCertificate(shoot *gardencorev1beta1.Shoot, created, now time.Time) bool {
	return !nodesUpdated(shoot).Before(created) || nodesHave(shoot, created, now)
}

// awaitingNodes returns the label of the ManagedResource of the caches, nil if none is needed: without a certificate of
// the nodes, there has never been one.
func awaitingNodes(caches []deployment, found observed, issued certificates) map[string]string {
	switch {
	case slices.ContainsFunc(caches, func(cache deployment) bool { return cache.awaitsNodes }):
		return map[string]string{awaitingNodesLabel: strconv.FormatInt(issued.nodeCreated.Unix(), 10)}
	case issued.nodeName != nil || found.status.nodeCertificate:
		return map[string]string{awaitingNodesLabel: notAwaitingNodes}
	}
	return nil
}

// selectAwaitingNodes selects the ManagedResources with caches that wait for nodes.
func selectAwaitingNodes() labels.Selector {
	exists, _ := labels.NewRequirement(awaitingNodesLabel, selection.Exists, nil)
	awaits, _ := labels.NewRequirement(awaitingNodesLabel, selection.NotIn, []string{notAwaitingNodes})
	return labels.NewSelector().Add(*exists, *awaits)
}
