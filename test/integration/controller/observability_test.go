// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
)

var _ = Describe("Observability", func() {
	var (
		s   *shoot
		hub = v1alpha3.RegistryCache{Upstream: "docker.io"}
	)

	BeforeEach(func(ctx SpecContext) { s = newShoot(ctx) })

	// versions returns the resource versions of the objects that exist.
	versions := func(ctx context.Context) map[schema.GroupKind]string {
		GinkgoHelper()
		found := map[schema.GroupKind]string{}
		name := metav1.ObjectMeta{Namespace: s.namespace, Name: "shoot-registry-cache"}
		for _, object := range []client.Object{
			&monitoringv1alpha1.ScrapeConfig{ObjectMeta: name},
			&monitoringv1.PrometheusRule{ObjectMeta: name},
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "registry-cache-dashboards"}},
		} {
			kind, err := apiutil.GVKForObject(object, kubernetes.SeedScheme)
			Expect(err).NotTo(HaveOccurred())
			existing := &metav1.PartialObjectMetadata{}
			existing.SetGroupVersionKind(kind)
			err = testClient.Get(ctx, client.ObjectKeyFromObject(object), existing)
			Expect(client.IgnoreNotFound(err)).NotTo(HaveOccurred())
			if err == nil {
				found[kind.GroupKind()] = existing.ResourceVersion
			}
		}
		return found
	}

	It("is accepted by the API server, written once, and deleted with the extension", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		before := versions(ctx)
		Expect(before).To(HaveLen(3))
		s.reconcile(ctx, hub)
		Expect(versions(ctx)).To(Equal(before))

		s.reconcile(ctx, hub, v1alpha3.RegistryCache{Upstream: "quay.io"})
		after := versions(ctx)
		for _, kind := range []string{"ScrapeConfig", "PrometheusRule"} {
			group := schema.GroupKind{Group: "monitoring.coreos.com", Kind: kind}
			Expect(after[group]).NotTo(Equal(before[group]), kind)
		}

		s.delete(ctx)
		Eventually(ctx, get(s.extension())).Should(beNotFound())
		Expect(versions(ctx)).To(BeEmpty())
	})

	It("is deleted when the purpose of the Shoot becomes testing", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Purpose = new(gardencorev1beta1.ShootPurposeTesting) })
		s.reconcile(ctx, hub)
		Expect(versions(ctx)).To(BeEmpty())
	})

	It("is deleted when the Shoot moves to another seed", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		s.operate(ctx, v1beta1constants.GardenerOperationMigrate, gardencorev1beta1.LastOperationStateSucceeded, hub)
		Expect(versions(ctx)).To(BeEmpty())
		s.delete(ctx)
		Eventually(ctx, get(s.extension())).Should(beNotFound())
	})

	It("is deleted with a Shoot that is deleted by force", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
			shoot.DeletionTimestamp = new(metav1.Now())
			metav1.SetMetaDataAnnotation(&shoot.ObjectMeta, v1beta1constants.AnnotationConfirmationForceDeletion, "true")
		})
		s.delete(ctx)
		Eventually(ctx, get(s.extension())).Should(beNotFound())
		Expect(versions(ctx)).To(BeEmpty())
	})
})
