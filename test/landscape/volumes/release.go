// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// VolumeReconciler deletes volumes whose claim is gone.
type VolumeReconciler struct {
	Client client.Client
}

// Reconcile implements reconcile.Reconciler.
func (r *VolumeReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	volume := &corev1.PersistentVolume{}
	if err := r.Client.Get(ctx, request.NamespacedName, volume); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	released := volume.Status.Phase == corev1.VolumeReleased &&
		volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
	if !released || volume.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	if err := os.RemoveAll(volume.Spec.Local.Path); err != nil {
		return reconcile.Result{}, fmt.Errorf("remove content of volume %s: %w", volume.Name, err)
	}
	return reconcile.Result{}, client.IgnoreNotFound(r.Client.Delete(ctx, volume))
}
