// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// requestedAnnotation is the annotation by which kube-controller-manager requests a volume.
	requestedAnnotation = "volume.kubernetes.io/storage-provisioner"
	// provisionedAnnotation names the provisioner that deletes the volume.
	provisionedAnnotation = "pv.kubernetes.io/provisioned-by"
)

// ClaimReconciler creates a volume for each claim and grows it with the claim.
type ClaimReconciler struct {
	Client  client.Client
	Options Options
}

// Reconcile implements reconcile.Reconciler.
func (r *ClaimReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	claim := &corev1.PersistentVolumeClaim{}
	if err := r.Client.Get(ctx, request.NamespacedName, claim); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	switch {
	case claim.DeletionTimestamp != nil:
		return reconcile.Result{}, nil
	case claim.Spec.VolumeName == "":
		return reconcile.Result{}, r.provision(ctx, claim)
	case claim.Status.Phase == corev1.ClaimBound:
		return reconcile.Result{}, r.grow(ctx, claim)
	}
	return reconcile.Result{}, nil
}

func (r *ClaimReconciler) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	volume := newVolume(claim, r.Options)
	path := volume.Spec.Local.Path
	if err := os.MkdirAll(path, 0o750); err != nil {
		return err
	}
	// A pod without fsGroup can run as any user. Mkdir respects the umask.
	if err := os.Chmod(path, 0o777); err != nil { // #nosec G302 -- see above.
		return err
	}
	if err := r.Client.Create(ctx, volume); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create volume for claim %s: %w", client.ObjectKeyFromObject(claim), err)
	}
	return nil
}

// grow grows the volume to the requested size. Volumes do not shrink.
func (r *ClaimReconciler) grow(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	wanted := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if wanted.Cmp(claim.Status.Capacity[corev1.ResourceStorage]) <= 0 {
		return nil
	}
	volume := &corev1.PersistentVolume{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: claim.Spec.VolumeName}, volume); err != nil {
		return err
	}
	before := volume.DeepCopy()
	volume.Spec.Capacity[corev1.ResourceStorage] = wanted
	if err := r.Client.Patch(ctx, volume, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("grow volume %s: %w", volume.Name, err)
	}
	grown := claim.DeepCopy()
	grown.Status.Capacity[corev1.ResourceStorage] = wanted
	grown.Status.Conditions = nil
	if err := r.Client.Status().Patch(ctx, grown, client.MergeFrom(claim)); err != nil {
		return fmt.Errorf("update status of claim %s: %w", client.ObjectKeyFromObject(claim), err)
	}
	return nil
}

func newVolume(claim *corev1.PersistentVolumeClaim, options Options) *corev1.PersistentVolume {
	name := "pvc-" + string(claim.UID)
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{provisionedAnnotation: Provisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			StorageClassName:              ptr.Deref(claim.Spec.StorageClassName, ""),
			VolumeMode:                    new(corev1.PersistentVolumeFilesystem),
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: filepath.Join(options.Dir, name)},
			},
			ClaimRef: &corev1.ObjectReference{
				APIVersion:      "v1",
				Kind:            "PersistentVolumeClaim",
				Namespace:       claim.Namespace,
				Name:            claim.Name,
				UID:             claim.UID,
				ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
					Key:      metav1.ObjectNameField,
					Operator: corev1.NodeSelectorOpIn,
					Values:   []string{options.Node},
				}}}},
			}},
		},
	}
}
