// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"fmt"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/readiness"
)

var _ = Describe("Requests", func() {
	var s *shoot

	// looks counts the requests for the StatefulSet of a cache. Between reconciliations, only looks make them.
	var looks int
	// writes returns the writes since the last call in the Shoot, and in its namespace in the seed.
	writes := func() []string {
		GinkgoHelper()
		all, err := requests.Read()
		Expect(err).NotTo(HaveOccurred())
		var found []string
		for _, request := range all {
			if request.Verb == "get" && request.Resource == "statefulsets" && request.Name == "registry-ghcr-io" {
				looks++
			}
			if request.IsWrite() && (request.Namespace == s.namespace || request.Namespace == component.Namespace) {
				found = append(found, fmt.Sprint(request.Verb, " ", request.Resource, " ", request.Name))
			}
		}
		return found
	}
	// settle waits until nothing follows from the last reconciliation: until no look, health check or change of a
	// ManagedResource has had a consequence for a while.
	settle := func(ctx context.Context) {
		GinkgoHelper()
		Eventually(ctx, func(g Gomega) {
			extension := s.extension()
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(extension.Status.Conditions).To(ContainElement(HaveField("Type", gardencorev1beta1.ShootSystemComponentsHealthy)))
		}).Should(Succeed())
		Eventually(ctx, func(g Gomega) {
			writes()
			g.Consistently(writes, "5s", "1s").Should(BeEmpty())
		}).Should(Succeed())
	}

	BeforeEach(func(ctx SpecContext) {
		s = newShoot(ctx)
	})

	It("change nothing when nothing is to be changed", func(ctx SpecContext) {
		caches := []v1alpha3.RegistryCache{
			{Upstream: "docker.io", HighAvailability: &v1alpha3.HighAvailability{Enabled: true}},
			{Upstream: "unchanged.example.com", SecretReferenceName: new("upstream-credentials")},
			{Upstream: "ghcr.io", HTTP: &v1alpha3.HTTP{TLS: new(false)}},
		}
		s.refer(ctx, "upstream-credentials", "v1", map[string]string{"username": "robot", "password": "password"})
		s.reconcile(ctx, caches...)
		settle(ctx)

		By("Before: an event about each cache, since none of them has a pod")
		Eventually(ctx, func(g Gomega) {
			events := &eventsv1.EventList{}
			g.Expect(testClient.List(ctx, events, client.InNamespace(s.namespace))).To(Succeed())
			var missing []string
			for _, event := range events.Items {
				if event.Reason == "Cache"+string(readiness.ReplicaMissing) {
					missing = append(missing, event.Regarding.FieldPath)
				}
			}
			g.Expect(missing).To(ConsistOf("spec.providerConfig.caches{docker.io}",
				"spec.providerConfig.caches{unchanged.example.com}", "spec.providerConfig.caches{ghcr.io}"))
		}).Should(Succeed())

		By("Reconciliation: only what Gardener's library writes about the operation")
		s.reconcile(ctx, caches...)
		Expect(writes()).To(ConsistOf(
			"patch extensions registry-cache", // It removes the annotation.
			"patch extensions/status registry-cache", "patch extensions/status registry-cache",
		))

		By("Rest, with two looks, and a health check every second")
		looks = 0
		Eventually(ctx, func(g Gomega) {
			Expect(writes()).To(BeEmpty())
			g.Expect(looks).To(BeNumerically(">=", 2))
		}, "5m", "1s").Should(Succeed())
	})
})
