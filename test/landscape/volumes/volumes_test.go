// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"context"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

var _ = Describe("Volumes", func() {
	var (
		ctx     context.Context
		c       client.Client
		options Options
		claim   *corev1.PersistentVolumeClaim
	)

	size := func(text string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(text)}
	}
	reconcileClaim := func() {
		GinkgoHelper()
		r := &ClaimReconciler{Client: c, Options: options}
		_, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(claim)})
		Expect(err).NotTo(HaveOccurred())
	}
	volumes := func() []corev1.PersistentVolume {
		GinkgoHelper()
		list := &corev1.PersistentVolumeList{}
		Expect(c.List(ctx, list)).To(Succeed())
		return list.Items
	}
	// bind binds a new volume like kube-controller-manager.
	bind := func() *corev1.PersistentVolume {
		GinkgoHelper()
		volume := volumes()[0]
		claim.Spec.VolumeName = volume.Name
		Expect(c.Update(ctx, claim)).To(Succeed())
		claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: volume.Spec.Capacity.DeepCopy()}
		Expect(c.Status().Update(ctx, claim)).To(Succeed())
		return &volume
	}

	BeforeEach(func() {
		ctx = GinkgoT().Context()
		options = Options{Dir: filepath.Join(GinkgoT().TempDir(), "volumes"), Node: "node"}
		claim = &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{
				Name: "claim", Namespace: "ns", UID: "1234",
				Annotations: map[string]string{requestedAnnotation: Provisioner},
			},
			Spec: corev1.PersistentVolumeClaimSpec{
				StorageClassName: new(StorageClass),
				AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:        corev1.VolumeResourceRequirements{Requests: size("1Gi")},
			},
		}
		c = fake.NewClientBuilder().WithObjects(claim).
			WithStatusSubresource(&corev1.PersistentVolumeClaim{}, &corev1.PersistentVolume{}).Build()
	})

	It("provisions one volume for a claim", func() {
		reconcileClaim()
		reconcileClaim()

		Expect(volumes()).To(HaveLen(1))
		volume := volumes()[0]
		Expect(volume.Spec.Capacity).To(Equal(size("1Gi")))
		Expect(volume.Spec.ClaimRef.UID).To(Equal(claim.UID))
		Expect(volume.Spec.Local.Path).To(BeADirectory())
		Expect(ownVolume(&volume)).To(BeTrue())
		info, err := os.Stat(volume.Spec.Local.Path)
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o777)), "any user can write")
	})

	It("grows a volume with its claim", func() {
		reconcileClaim()
		bind()
		claim.Spec.Resources.Requests = size("3Gi")
		Expect(c.Update(ctx, claim)).To(Succeed())
		reconcileClaim()

		Expect(volumes()[0].Spec.Capacity).To(Equal(size("3Gi")))
		Expect(c.Get(ctx, client.ObjectKeyFromObject(claim), claim)).To(Succeed())
		Expect(claim.Status.Capacity).To(Equal(size("3Gi")))
	})

	It("leaves satisfied claims alone", func() {
		reconcileClaim()
		before := bind()
		reconcileClaim()
		Expect(volumes()[0].ResourceVersion).To(Equal(before.ResourceVersion))
	})

	DescribeTable("deletes a volume and its content when",
		func(phase corev1.PersistentVolumePhase, deleted bool) {
			reconcileClaim()
			volume := volumes()[0]
			Expect(os.WriteFile(filepath.Join(volume.Spec.Local.Path, "file"), nil, 0o600)).To(Succeed())
			volume.Status.Phase = phase
			Expect(c.Status().Update(ctx, &volume)).To(Succeed())

			r := &VolumeReconciler{Client: c}
			_, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&volume)})
			Expect(err).NotTo(HaveOccurred())
			if deleted {
				Expect(volumes()).To(BeEmpty())
				Expect(volume.Spec.Local.Path).NotTo(BeADirectory())
			} else {
				Expect(volumes()).To(HaveLen(1))
				Expect(filepath.Join(volume.Spec.Local.Path, "file")).To(BeARegularFile())
			}
		},
		Entry("its claim is gone", corev1.VolumeReleased, true),
		Entry("its claim is gone, and not while it is bound", corev1.VolumeBound, false),
	)

	It("ignores the claims of other provisioners", func() {
		claim.Annotations[requestedAnnotation] = "other"
		Expect(ownClaim(claim)).To(BeFalse())
	})
})
