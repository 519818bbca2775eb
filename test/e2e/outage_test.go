// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"

	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape/garden"
)

var _ = Describe("Outages", func() {
	It("serves cached images while the upstream is down", Label("upstream-down"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost))
		image := newImage(ctx, garden.PrivateHost)
		pull(ctx, image)

		Expect(here.StopProcess(ctx, "upstreams")).To(Succeed())
		DeferCleanup(here.StartProcess, "upstreams")
		before := counts(ctx, garden.PrivateHost)
		pull(ctx, image)
		expectHits(ctx, garden.PrivateHost, before)

		By("starting the cache while the upstream is down")
		restartCache(ctx, garden.PrivateHost)
		pull(ctx, image)
	}, SpecTimeout(journeyTimeout))

	// Without a cache, the node needs the cache's credentials: the pod has a pull secret.
	It("pulls from the upstream while the cache is down", Label("cache-down"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost))
		stopCache(ctx, garden.PrivateHost)
		// AfterEach runs before the cleanup of stopCache, and waits until the node uses the cache.
		defer startCache(context.WithoutCancel(ctx), garden.PrivateHost)

		image := newImage(ctx, garden.PrivateHost)
		log := accessLog()
		pull(ctx, image, pullSecret(ctx, garden.PrivateHost))

		requests, err := log.Requests("/" + repository + "/")
		Expect(err).NotTo(HaveOccurred())
		Expect(requests).NotTo(BeEmpty())
		for _, request := range requests {
			Expect(request.Client).To(Equal(here.IP()), request.Line)
		}
	}, SpecTimeout(journeyTimeout))

	It("survives the loss of a replica of a highly available cache", Label("ha"), func(ctx context.Context) {
		available := garden.Cache(garden.PrivateHost)
		available.HighAvailability = &v1alpha3.HighAvailability{Enabled: true}
		configure(ctx, available)

		key := cacheKey(garden.PrivateHost)
		budget := &policyv1.PodDisruptionBudget{}
		Expect(c.Get(ctx, key, budget)).To(Succeed())
		Eventually(ctx, func(g Gomega) {
			g.Expect(c.Get(ctx, key, budget)).To(Succeed())
			g.Expect(budget.Status.CurrentHealthy).To(BeEquivalentTo(2))
			g.Expect(budget.Status.DisruptionsAllowed).To(BeEquivalentTo(1))
		}).Should(Succeed())
		pull(ctx, newImage(ctx, garden.PrivateHost))

		for _, replica := range []string{"-0", "-1"} {
			By("losing replica " + replica)
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: key.Name + replica, Namespace: key.Namespace}}
			Expect(c.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
			pull(ctx, newImage(ctx, garden.PrivateHost))
			expectReady(ctx, garden.PrivateHost)
		}

		By("going back to one replica")
		configure(ctx, garden.Cache(garden.PrivateHost))
		expectGone(ctx, &policyv1.PodDisruptionBudget{}, key)
		expectGone(ctx, &corev1.PersistentVolumeClaim{}, client.ObjectKey{Namespace: key.Namespace, Name: "cache-volume-" + key.Name + "-1"})
	}, SpecTimeout(journeyTimeout))
})

// restartCache replaces the pod of a cache.
func restartCache(ctx context.Context, host string) {
	GinkgoHelper()
	key := client.ObjectKey{Namespace: cacheKey(host).Namespace, Name: cacheKey(host).Name + "-0"}
	pod := &corev1.Pod{}
	Expect(c.Get(ctx, key, pod)).To(Succeed())
	old := pod.UID
	Expect(c.Delete(ctx, pod)).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		g.Expect(c.Get(ctx, key, pod)).To(Succeed())
		g.Expect(pod.UID).NotTo(Equal(old))
	}).Should(Succeed())
	expectReady(ctx, host)
}

// stopCache scales a cache to zero until the end of the journey. gardener-resource-manager, which would restore it,
// ignores it meanwhile.
func stopCache(ctx context.Context, host string) {
	GinkgoHelper()
	ignoreManagedResource(ctx, managedResourceKey, true)
	DeferCleanup(startCache, host)

	set := &appsv1.StatefulSet{}
	Expect(c.Get(ctx, cacheKey(host), set)).To(Succeed())
	patch := client.MergeFrom(set.DeepCopy())
	set.Spec.Replicas = new(int32(0))
	Expect(c.Patch(ctx, set, patch)).To(Succeed())
	Eventually(ctx, func() []string { return addresses(ctx, host) }).Should(BeEmpty())
}

// startCache starts a stopped cache.
func startCache(ctx context.Context, host string) {
	GinkgoHelper()
	ignoreManagedResource(ctx, managedResourceKey, false)
	expectReady(ctx, host)
}

// ignoreManagedResource makes gardener-resource-manager ignore changes of a ManagedResource's objects, or restore them.
func ignoreManagedResource(ctx context.Context, key client.ObjectKey, ignored bool) {
	GinkgoHelper()
	resource := &resourcesv1alpha1.ManagedResource{}
	Expect(c.Get(ctx, key, resource)).To(Succeed())
	patch := client.MergeFrom(resource.DeepCopy())
	delete(resource.Annotations, resourcesv1alpha1.Ignore)
	if ignored {
		metav1.SetMetaDataAnnotation(&resource.ObjectMeta, resourcesv1alpha1.Ignore, "true")
	}
	Expect(c.Patch(ctx, resource, patch)).To(Succeed())
}
