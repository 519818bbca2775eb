// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("Readiness", func() {
	const name = "registry-followed-example-com"

	var (
		s     *shoot
		cache = v1alpha3.RegistryCache{Upstream: "followed.example.com", HTTP: &v1alpha3.HTTP{TLS: new(false)}}
	)

	// expect has the controller look at the cache until it has the given condition: a change must last for some looks.
	expect := func(ctx context.Context, status metav1.ConditionStatus, reason readiness.Reason, message string) metav1.Condition {
		GinkgoHelper()
		var condition metav1.Condition
		Eventually(ctx, func(g Gomega) {
			extension := s.reconcile(ctx, cache)
			g.Expect(get(extension)(ctx)).To(Succeed())
			caches := statusOf(extension).Caches
			g.Expect(caches).To(HaveLen(1))
			g.Expect(caches[0].Conditions).To(ConsistOf(And(
				HaveField("Type", registry.ConditionReady), HaveField("Status", status), HaveField("Reason", string(reason)), HaveField("Message", ContainSubstring(message)))))
			condition = caches[0].Conditions[0]
		}).Should(Succeed())
		return condition
	}
	// expectHealth waits for the condition of the Extension, which gardenlet adds to the Shoot.
	expectHealth := func(ctx context.Context, status gardencorev1beta1.ConditionStatus, message string, codes ...gardencorev1beta1.ErrorCode) {
		GinkgoHelper()
		extension := s.extension()
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(extension.Status.Conditions).To(ConsistOf(And(
				HaveField("Type", gardencorev1beta1.ShootSystemComponentsHealthy), HaveField("Status", status), HaveField("Message", ContainSubstring(message)), HaveField("Codes", ConsistOf(codes)))))
		}).Should(Succeed())
	}

	BeforeEach(func(ctx SpecContext) {
		s = newShoot(ctx)
	})

	It("names the cause of a cache that does not work, until it works", func(ctx SpecContext) {
		By("No pod")
		started := expect(ctx, metav1.ConditionFalse, readiness.ReplicaMissing, name+"-0 does not exist").LastTransitionTime
		expectHealth(ctx, gardencorev1beta1.ConditionProgressing, "Registry cache for followed.example.com: Pod "+name+"-0 does not exist")

		By("No StorageClass")
		claim := inShoot(&corev1.PersistentVolumeClaim{}, component.ClaimName(name, 0))
		claim.Labels = component.Labels(upstream.Upstream(cache.Upstream))
		claim.Spec = corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: new("premium"),
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}},
		}
		Expect(testClient.Create(ctx, claim)).To(Succeed())
		statefulSet := inShoot(&appsv1.StatefulSet{}, name)
		Eventually(ctx, get(statefulSet)).Should(Succeed())
		pod := createPod(ctx, statefulSet)
		setStatus := func(change func(status *corev1.PodStatus, container *corev1.ContainerStatus)) {
			GinkgoHelper()
			Expect(get(pod)(ctx)).To(Succeed())
			container := corev1.ContainerStatus{Name: "registry-cache", Image: "example.com/registry-cache-server:v1"}
			pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
			change(&pod.Status, &container)
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{container}
			Expect(testClient.Status().Update(ctx, pod)).To(Succeed())
		}
		expect(ctx, metav1.ConditionFalse, readiness.NoVolume, `The StorageClass "premium" of claim cache-volume-`+name+"-0 does not exist")
		expectHealth(ctx, gardencorev1beta1.ConditionProgressing, "premium", gardencorev1beta1.ErrorConfigurationProblem)

		By("No node")
		claim.Status.Phase = corev1.ClaimBound
		Expect(testClient.Status().Update(ctx, claim)).To(Succeed())
		setStatus(func(status *corev1.PodStatus, _ *corev1.ContainerStatus) {
			status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "no nodes available to schedule pods"}}
		})
		expect(ctx, metav1.ConditionFalse, readiness.Unschedulable, "no nodes available to schedule pods")

		By("No image")
		setStatus(func(_ *corev1.PodStatus, container *corev1.ContainerStatus) {
			container.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}
		})
		expect(ctx, metav1.ConditionFalse, readiness.ImagePullFailed, "example.com/registry-cache-server:v1")

		By("A crash")
		setStatus(func(status *corev1.PodStatus, container *corev1.ContainerStatus) {
			status.Phase = corev1.PodRunning
			container.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
			container.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 2, FinishedAt: metav1.Now()}
		})
		last := expect(ctx, metav1.ConditionFalse, readiness.Crashing, "exit code 2")
		Expect(last.LastTransitionTime).To(Equal(started), "it has not been ready in between")

		By("Recovery")
		replica := serveReplica()
		replica.sayStatus(healthyReport())
		setStatus(func(status *corev1.PodStatus, _ *corev1.ContainerStatus) {
			status.Phase = corev1.PodRunning
			status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			status.PodIP = hostAddress()
			status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
		})
		Expect(get(statefulSet)(ctx)).To(Succeed())
		statefulSet.Status = appsv1.StatefulSetStatus{ObservedGeneration: statefulSet.Generation, Replicas: 1, ReadyReplicas: 1, UpdatedReplicas: 1}
		Expect(testClient.Status().Update(ctx, statefulSet)).To(Succeed())
		expect(ctx, metav1.ConditionTrue, readiness.Ready, "No problem")
		expectHealth(ctx, gardencorev1beta1.ConditionTrue, "")

		By("Metrics")
		Eventually(ctx, func(g Gomega) {
			families, err := metrics.Registry.Gather()
			g.Expect(err).NotTo(HaveOccurred())
			values := map[string]float64{}
			for _, family := range families {
				for _, metric := range family.GetMetric() {
					for _, label := range metric.GetLabel() {
						values[family.GetName()+" "+label.GetValue()] = metric.GetGauge().GetValue()
					}
				}
			}
			g.Expect(values).To(HaveKeyWithValue("registry_cache_caches Ready", 1.0))
			g.Expect(values).To(HaveKeyWithValue("registry_cache_caches NoVolume", 0.0))
		}).Should(Succeed())

		By("What the replica reports")
		report := healthyReport()
		report.Storage.Bypassing = true
		replica.sayStatus(report)
		expect(ctx, metav1.ConditionTrue, readiness.ContentTooLarge, "does not fit")
		expectHealth(ctx, gardencorev1beta1.ConditionTrue, "")

		report.Storage.Full = true
		replica.sayStatus(report)
		expect(ctx, metav1.ConditionFalse, readiness.DiskFull, "volume.size")

		report.Storage = status.Storage{Failing: true}
		replica.sayStatus(report)
		expect(ctx, metav1.ConditionFalse, readiness.StorageFailing, "cannot store")

		report = healthyReport()
		report.Certificate = &status.Certificate{NotAfter: time.Now().Add(time.Hour)}
		replica.sayStatus(report)
		expect(ctx, metav1.ConditionFalse, readiness.CertificateExpiring, "valid until")
		expectHealth(ctx, gardencorev1beta1.ConditionFalse, "valid until")

		report = healthyReport()
		report.Upstream = status.Upstream{Host: cache.Upstream, Message: "connection refused"}
		replica.sayStatus(report)
		expect(ctx, metav1.ConditionFalse, readiness.UpstreamUnreachable, "connection refused")

		replica.sayStatus(healthyReport())
		expect(ctx, metav1.ConditionTrue, readiness.Ready, "No problem")
		expectHealth(ctx, gardencorev1beta1.ConditionTrue, "")

		By("Events")
		Eventually(ctx, func(g Gomega) {
			events := &eventsv1.EventList{}
			g.Expect(testClient.List(ctx, events, client.InNamespace(s.namespace))).To(Succeed())
			for _, reason := range readiness.Problems() {
				switch reason {
				case readiness.CredentialRejected, readiness.CredentialMissing, readiness.ReplicaNotReady, readiness.NodesUseUpstream:
					continue // They have events of their own, or did not occur.
				}
				g.Expect(events.Items).To(ContainElement(And(HaveField("Reason", "Cache"+string(reason)), HaveField("Type", corev1.EventTypeWarning), HaveField("Regarding.Kind", "Extension"))))
			}
			g.Expect(events.Items).To(ContainElement(And(HaveField("Reason", "CacheReady"), HaveField("Type", corev1.EventTypeNormal))))
		}).Should(Succeed())
	})

	It("is unknown while the Shoot is hibernated, and returns with it", func(ctx SpecContext) {
		expect(ctx, metav1.ConditionFalse, readiness.ReplicaMissing, name)
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
			shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)}
		})
		expect(ctx, metav1.ConditionUnknown, readiness.Hibernated, "The Shoot is hibernated")
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Hibernation = nil })
		expect(ctx, metav1.ConditionFalse, readiness.ReplicaMissing, name)
	})

	It("ignores malformed reports", func(ctx SpecContext) {
		s.reconcile(ctx, cache)
		Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, name))).Should(Succeed())
		replica := newReplica(ctx, cache.Upstream)
		for _, document := range []string{
			`{"upstream":{"host":"x"},"storage":{"size":1e999999999}}`,
			`{"upstream":{"host":"x","since":"99999-01-01T00:00:00Z"}}`,
			`[`, `null`, `{"upstream":null,"certificate":{"notAfter":"0001-01-01T00:00:00Z"}}`,
		} {
			replica.sayRaw(document)
			before := replica.requests()
			expect(ctx, metav1.ConditionFalse, readiness.ReplicaNotReady, name)
			Eventually(ctx, replica.requests).Should(BeNumerically(">", before))
		}
	})
})

// healthyReport is the report of a replica that works.
func healthyReport() status.Report {
	return status.Report{Upstream: status.Upstream{Host: "followed.example.com", Reachable: true}, Storage: status.Storage{Size: 10 << 30, Free: 5 << 30}}
}
