// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"

	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	"github.com/gardener/gardener/pkg/controllerutils"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape/garden"
)

var _ = Describe("Secrets of the project", Label("protection"), func() {
	var used, other *corev1.Secret

	BeforeEach(func(ctx context.Context) {
		used, other = projectSecret("protection-v1"), projectSecret("other")
		Expect(c.Create(ctx, other)).To(Succeed())
		DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, other)) })
		username, password, err := here.Puller()
		Expect(err).NotTo(HaveOccurred())
		Expect(garden.EnsureCredentials(ctx, c, used.Name, username, password)).To(Succeed())
		DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, used)) })
		configureWith(ctx, used.Name, garden.Cache(garden.PrivateHost))
		Eventually(ctx, func(g Gomega) {
			g.Expect(c.Get(ctx, client.ObjectKeyFromObject(used), used)).To(Succeed())
			g.Expect(used.Finalizers).To(ConsistOf(v1beta1constants.ReferenceProtectionFinalizerName))
		}).Should(Succeed())
	}, NodeTimeout(journeyTimeout))

	It("cannot be deleted while a cache uses them", func(ctx context.Context) {
		refused := MatchError(And(
			ContainSubstring("Shoot "+shootKey.Name+" (spec.resources[0], used in spec.extensions[0].providerConfig.caches[0].secretReferenceName)"),
			ContainSubstring("Reference another Secret")))
		Expect(c.Delete(ctx, used)).To(refused)
		Expect(c.Delete(ctx, other)).To(Succeed())

		By("losing Gardener's finalizer")
		Expect(controllerutils.RemoveAllFinalizers(ctx, c, used)).To(Succeed())
		Expect(c.Delete(ctx, used)).To(refused)
	}, SpecTimeout(journeyTimeout))

	Context("without the admission component", func() {
		admission := &appsv1.Deployment{}
		var replicas int32

		BeforeEach(func(ctx context.Context) {
			admission.Namespace, admission.Name = garden.AdmissionNamespace, "gardener-extension-registry-cache-admission"
			Expect(c.Get(ctx, client.ObjectKeyFromObject(admission), admission)).To(Succeed())
			replicas = *admission.Spec.Replicas
			scale(ctx, admission, 0)
		}, NodeTimeout(journeyTimeout))

		AfterEach(func(ctx context.Context) {
			scale(ctx, admission, replicas)
			Eventually(ctx, func() error { return c.Delete(ctx, used, client.DryRunAll) }).Should(MatchError(ContainSubstring("in use")))
		}, NodeTimeout(journeyTimeout))

		It("are protected only if caches use them", func(ctx context.Context) {
			Expect(c.Delete(ctx, used)).To(MatchError(ContainSubstring("failed calling webhook")))
			Expect(c.Get(ctx, client.ObjectKeyFromObject(used), used)).To(Succeed())
			Expect(used.DeletionTimestamp).To(BeNil())
			Expect(c.Delete(ctx, other)).To(Succeed())
			Expect(c.Get(ctx, client.ObjectKeyFromObject(other), other)).To(Satisfy(apierrors.IsNotFound))
		}, SpecTimeout(journeyTimeout))
	})
})

// scale scales a Deployment and waits until exactly that many pods run.
func scale(ctx context.Context, deployment *appsv1.Deployment, replicas int32) {
	GinkgoHelper()
	patch := client.MergeFrom(deployment.DeepCopy())
	deployment.Spec.Replicas = &replicas
	Expect(c.Patch(ctx, deployment, patch)).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		g.Expect(c.Get(ctx, client.ObjectKeyFromObject(deployment), deployment)).To(Succeed())
		g.Expect(deployment.Status.ObservedGeneration).To(Equal(deployment.Generation))
		g.Expect(deployment.Status.AvailableReplicas).To(Equal(replicas))
		pods := &corev1.PodList{}
		g.Expect(c.List(ctx, pods, client.InNamespace(deployment.Namespace), client.MatchingLabels(deployment.Spec.Selector.MatchLabels))).To(Succeed())
		g.Expect(pods.Items).To(HaveLen(int(replicas)))
	}).Should(Succeed())
}
