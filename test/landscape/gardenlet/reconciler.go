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

// Patience limits the waits of the stand-in.
type Patience struct {
	// Interval is the polling interval.
	Interval time.Duration
	// Severe is the time after which a reported error of an extension ends the operation.
	Severe time.Duration
	// Timeout limits the wait of a step.
	Timeout time.Duration
}

// Reconciler stands in for the gardenlet, for one Shoot at a time.
type Reconciler struct {
	// Client is a client of the garden, the seed and the shoot, which are one cluster.
	Client client.Client
	// Kubeconfig is the kubeconfig of the shoot for extensions.
	Kubeconfig []byte
	// Node is the machine of all worker pools.
	Node Machine
	// Clock is the clock of timestamps in the status.
	Clock clock.Clock
	// Patience limits the waits.
	Patience Patience
}

// Machine is the stand-in's interface to a node.
type Machine interface {
	// Apply applies the configuration in the Secret of gardener-node-agent to the node and waits for it.
	Apply(ctx context.Context, secret client.ObjectKey) error
	// Wipe removes everything that Apply wrote, like the deletion of a machine.
	Wipe(ctx context.Context) error
}

// Reconcile runs the operation that the Shoot needs, or updates its conditions.
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
				return reconcile.Result{}, fmt.Errorf("add finalizer: %w", err)
			}
		}
		if err := r.operate(ctx, shoot, r.reconcile); err != nil {
			return reconcile.Result{}, err
		}
		if shoot.Status.LastOperation.State != gardencorev1beta1.LastOperationStateSucceeded {
			return reconcile.Result{}, nil
		}
		// It shows extensions that the nodes have been updated.
		return reconcile.Result{}, r.syncCluster(ctx, shoot)

	default:
		return reconcile.Result{}, r.care(ctx, shoot)
	}
}

// operate runs a flow and records it in the Shoot's status. An error that only the owner can fix ends the operation, as
// in Gardener. Any other error is returned, so that the operation is retried.
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
		logf.FromContext(ctx).Info("Operation failed permanently, waiting for a change of the Shoot", "reason", flowErr.Error())
		return nil
	}
	return flowErr
}

func (r *Reconciler) patchStatus(ctx context.Context, shoot *gardencorev1beta1.Shoot, change func()) error {
	patch := client.MergeFrom(shoot.DeepCopy())
	change()
	if err := r.Client.Status().Patch(ctx, shoot, patch); err != nil {
		return fmt.Errorf("patch status of Shoot %s: %w", client.ObjectKeyFromObject(shoot), err)
	}
	return nil
}
