// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package gardenlet

import (
	"context"
	"fmt"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"github.com/gardener/gardener/pkg/controllerutils"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Patience says how long the stand-in waits for others.
type Patience struct {
	// Interval is the time between two looks at an object.
	Interval time.Duration
	// Severe is how long an error that an extension reports may stand before the operation is given up.
	Severe time.Duration
	// Timeout limits the wait for one step.
	Timeout time.Duration
}

// Reconciler plays the gardenlet's part for one Shoot at a time.
type Reconciler struct {
	// Client reads and writes the garden, the seed and the shoot, which are one cluster.
	Client client.Client
	// Kubeconfig is what extensions get to reach the shoot.
	Kubeconfig []byte
	// Node is the machine of all worker pools.
	Node Machine
	// Clock stamps the status.
	Clock clock.Clock
	// Patience limits the waits.
	Patience Patience
}

// Machine is what the stand-in needs of a node.
type Machine interface {
	// Apply brings the configuration that the Secret of gardener-node-agent holds onto the node and waits for it.
	Apply(ctx context.Context, secret client.ObjectKey) error
	// Wipe leaves nothing of what Apply wrote, as the deletion of a machine does.
	Wipe(ctx context.Context) error
}

// Reconcile runs the operation that the Shoot needs, or else looks after its conditions.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	shoot := &gardencorev1beta1.Shoot{}
	if err := r.Client.Get(ctx, request.NamespacedName, shoot); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}

	switch {
	case shoot.DeletionTimestamp != nil:
		if !hasFinalizer(shoot) {
			return reconcile.Result{}, nil
		}
		if err := r.operate(ctx, shoot, r.delete); err != nil {
			return reconcile.Result{}, err
		}
		return reconcile.Result{}, controllerutils.RemoveFinalizers(ctx, r.Client, shoot, gardencorev1beta1.GardenerName)

	case needsOperation(shoot):
		if !hasFinalizer(shoot) {
			if err := controllerutils.AddFinalizers(ctx, r.Client, shoot, gardencorev1beta1.GardenerName); err != nil {
				return reconcile.Result{}, fmt.Errorf("could not add the finalizer: %w", err)
			}
		}
		if err := r.operate(ctx, shoot, r.reconcile); err != nil {
			return reconcile.Result{}, err
		}
		if shoot.Status.LastOperation.State != gardencorev1beta1.LastOperationStateSucceeded {
			return reconcile.Result{}, nil
		}
		// Extensions learn from it that the nodes have been updated.
		return reconcile.Result{}, r.syncCluster(ctx, shoot)

	default:
		return reconcile.Result{}, r.care(ctx, shoot)
	}
}

// operate frames a flow with its traces in the Shoot's status. An error that only the owner can mend ends the
// operation, as in Gardener; every other one is returned, so that the operation is tried again.
func (r *Reconciler) operate(ctx context.Context, shoot *gardencorev1beta1.Shoot, flow func(context.Context, *gardencorev1beta1.Shoot) error) error {
	if err := r.patchStatus(ctx, shoot, func() { begin(r.Clock, shoot) }); err != nil {
		return err
	}

	flowErr := flow(ctx, shoot)
	if flowErr == nil {
		return r.patchStatus(ctx, shoot, func() { succeed(r.Clock, shoot) })
	}

	if err := r.patchStatus(ctx, shoot, func() { fail(r.Clock, shoot, flowErr) }); err != nil {
		return err
	}
	if shoot.Status.LastOperation.State == gardencorev1beta1.LastOperationStateFailed {
		logf.FromContext(ctx).Info("Operation failed for good, waiting for a change of the Shoot", "reason", flowErr.Error())
		return nil
	}
	return flowErr
}

func (r *Reconciler) patchStatus(ctx context.Context, shoot *gardencorev1beta1.Shoot, change func()) error {
	patch := client.MergeFrom(shoot.DeepCopy())
	change()
	if err := r.Client.Status().Patch(ctx, shoot, patch); err != nil {
		return fmt.Errorf("could not patch the status of Shoot %s: %w", client.ObjectKeyFromObject(shoot), err)
	}
	return nil
}
