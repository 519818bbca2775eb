// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
)

var _ = Describe("Services", func() {
	var (
		start = time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC)
		never time.Time
	)
	// newCache parses "upstream" or "upstream/suffix".
	newCache := func(text string) deployment {
		host, suffix, ok := strings.Cut(text, "/")
		values := deployment{Values: component.Values{
			Cache:             registry.RegistryCache{Upstream: host, HTTP: &registry.HTTP{TLS: new(false)}},
			KubernetesVersion: semver.MustParse("1.36.3"),
		}}
		if ok {
			values.Cache.ServiceNameSuffix = &suffix
		}
		return values
	}
	newCaches := func(texts ...string) []deployment {
		var caches []deployment
		for _, text := range texts {
			caches = append(caches, newCache(text))
		}
		return caches
	}
	describe := func(plan servicePlan) []string {
		var out []string
		for _, service := range plan.services() {
			text := service.Name + " of " + service.Annotations[upstreamAnnotation]
			if isRetired(service) {
				text += ", retired"
			}
			out = append(out, text)
		}
		return out
	}

	It("outlive their caches until all nodes are updated", func() {
		before := planServices(nil, newCaches("docker.io", "quay.io"), never, start)
		Expect(describe(before)).To(ConsistOf("registry-docker-io of docker.io", "registry-quay-io of quay.io"))

		removed := planServices(before.services(), newCaches("docker.io"), start.Add(-time.Hour), start)
		Expect(describe(removed)).To(ConsistOf("registry-docker-io of docker.io", "registry-quay-io of quay.io, retired"))
		Expect(removed.caches).To(HaveLen(1))
		quay := func(plan servicePlan) *corev1.Service {
			services := plan.services()
			return services[slices.IndexFunc(services, func(service *corev1.Service) bool { return service.Name == "registry-quay-io" })]
		}
		Expect(quay(removed).Spec).To(Equal(quay(before).Spec), "it keeps its address")

		for _, updated := range []time.Time{never, start.Add(-time.Hour), start.Add(-time.Second)} {
			again := planServices(removed.services(), newCaches("docker.io"), updated, start.Add(time.Hour))
			Expect(again.services()).To(ConsistOf(removed.services()), "at %s", updated)
		}
		for _, updated := range []time.Time{start, start.Add(time.Minute)} {
			gone := planServices(removed.services(), newCaches("docker.io"), updated, start.Add(time.Hour))
			Expect(describe(gone)).To(ConsistOf("registry-docker-io of docker.io"), "at %s", updated)
		}
	})

	It("are used again if their caches return", func() {
		removed := planServices(planServices(nil, newCaches("docker.io"), never, start).services(), nil, never, start)
		Expect(removed.retired).To(HaveLen(1))
		Expect(describe(planServices(removed.services(), newCaches("docker.io"), never, start))).To(ConsistOf("registry-docker-io of docker.io"))
	})

	DescribeTable("are not reused for another upstream until all nodes are updated", func(present, wanted, expected []string) {
		deployed := planServices(nil, newCaches(present...), never, start).services()
		for range 2 { // The second plan equals the first.
			plan := planServices(deployed, newCaches(wanted...), never, start)
			Expect(describe(plan)).To(ConsistOf(expected))
			deployed = plan.services()
		}
		// Once the nodes are updated, the owner's wishes are fulfilled, after another step for Services that retire
		// then.
		at := start
		for range 2 {
			at = at.Add(time.Hour)
			deployed = planServices(deployed, newCaches(wanted...), at.Add(-time.Minute), at).services()
		}
		last := planServices(deployed, newCaches(wanted...), at, at)
		Expect(describe(last)).To(ConsistOf(describe(planServices(nil, newCaches(wanted...), never, at))))
	},
		Entry("with the same derived name", []string{"a.b"}, []string{"a-b"}, []string{"registry-a-b of a.b, retired"}),
		Entry("even with the same labels", []string{"a:5000"}, []string{"a-5000"}, []string{"registry-a-5000 of a:5000, retired"}),
		Entry("with the same objects but another Service", []string{"a.b"}, []string{"a-b/other"}, []string{"registry-a-b of a.b, retired"}),
		Entry("with the same suffix", []string{"a.b/red"}, []string{"c.d/red"}, []string{"registry-red of a.b, retired"}),
		Entry("a running cache keeps its name until the wanted one is free", []string{"a.b", "c.d"}, []string{"c.d/a-b"},
			[]string{"registry-a-b of a.b, retired", "registry-c-d of c.d"}),
		Entry("that takes the name of one that moves to another", []string{"a.b/red", "c.d/blue"}, []string{"a.b/blue", "c.d/green"},
			[]string{"registry-red of a.b", "registry-blue of c.d, retired", "registry-green of c.d"}),
	)

	It("keep their upstreams when two of them swap names", func() {
		deployed := planServices(nil, newCaches("a.b/red", "c.d/blue"), never, start).services()
		Expect(describe(planServices(deployed, newCaches("a.b/blue", "c.d/red"), start.Add(-time.Hour), start))).
			To(ConsistOf("registry-red of a.b", "registry-blue of c.d"))
	})

	It("are identified by their labels if they come from an earlier version", func() {
		deployed := []*corev1.Service{component.Service(newCache("docker.io").Values), component.Service(newCache("a.b").Values)}
		Expect(describe(planServices(deployed, newCaches("docker.io", "a-b"), never, start))).To(ConsistOf("registry-docker-io of docker.io", "registry-a-b of , retired"))
	})

	It("do not accumulate without bound", func() {
		var deployed []*corev1.Service
		for i := range 3 * maxRetired {
			deployed = planServices(deployed, newCaches(fmt.Sprintf("registry-%d.example.com", i)), never, start.Add(time.Duration(i)*time.Minute)).services()
		}
		Expect(deployed).To(HaveLen(maxRetired + 1))
		Expect(deployed).To(ContainElement(HaveField("Name", fmt.Sprintf("registry-registry-%d-example-com", 3*maxRetired-2))))
	})

	Describe("in a seed", func() {
		const namespace = "shoot--dev--example"
		var (
			clock    *testclock.FakeClock
			seed     client.Client
			actuator *Actuator
			janitor  *Janitor
			shoot    *gardencorev1beta1.Shoot
			ex       *extensionsv1alpha1.Extension
		)

		// sync updates the Cluster as gardenlet does when an operation starts or succeeds.
		sync := func(ctx context.Context, state gardencorev1beta1.LastOperationState) *extensionscontroller.Cluster {
			GinkgoHelper()
			shoot.Status.LastOperation = &gardencorev1beta1.LastOperation{
				Type: gardencorev1beta1.LastOperationTypeReconcile, State: state, LastUpdateTime: metav1.NewTime(clock.Now()),
			}
			raw, err := json.Marshal(shoot)
			Expect(err).NotTo(HaveOccurred())
			cluster := &extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
			Expect(client.IgnoreNotFound(seed.Delete(ctx, cluster))).To(Succeed())
			cluster.ResourceVersion = ""
			cluster.Spec = extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: raw}, CloudProfile: runtime.RawExtension{Raw: []byte("{}")}}
			Expect(seed.Create(ctx, cluster)).To(Succeed())
			return &extensionscontroller.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Shoot: shoot}
		}
		retire := func(ctx context.Context) {
			GinkgoHelper()
			Expect(actuator.writeServices(ctx, namespace, Origin, planServices(nil, newCaches("docker.io"), never, start).services())).To(Succeed())
			cluster := sync(ctx, gardencorev1beta1.LastOperationStateProcessing)
			Expect(actuator.retireServices(ctx, cluster)).To(Succeed())
		}
		present := func(ctx context.Context) []*corev1.Service {
			GinkgoHelper()
			services, err := readServices(ctx, seed, namespace)
			Expect(err).NotTo(HaveOccurred())
			return services
		}
		isAsked := func(ctx context.Context) bool {
			GinkgoHelper()
			Expect(seed.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
			return ex.Annotations[v1beta1constants.GardenerOperation] == v1beta1constants.GardenerOperationReconcile
		}

		BeforeEach(func() {
			clock = testclock.NewFakeClock(start)
			seed = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).Build()
			actuator = &Actuator{Client: seed, Clock: clock}
			janitor = &Janitor{Client: seed, Log: logr.Discard()}
			shoot = &gardencorev1beta1.Shoot{TypeMeta: metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"}}
			ex = &extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: registry.ExtensionType},
				Status: extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{
					LastOperation: &gardencorev1beta1.LastOperation{State: gardencorev1beta1.LastOperationStateSucceeded},
				}},
			}
		})

		It("outlive the extension in a Shoot until all nodes are updated", func(ctx SpecContext) {
			retire(ctx)
			Expect(present(ctx)).To(ConsistOf(HaveField("Name", "registry-docker-io")))
			managedResource := newManagedResource(namespace, ManagedResourceServices)
			Expect(seed.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource)).To(Succeed())
			Expect(managedResource.Labels).To(HaveKeyWithValue("origin", "gardener"), "gardenlet then removes it with the Shoot")
			Expect(janitor.sweep(ctx)).To(Succeed())
			Expect(present(ctx)).To(HaveLen(1), "nodes may still use them")

			clock.Step(time.Minute)
			sync(ctx, gardencorev1beta1.LastOperationStateSucceeded)
			Expect(janitor.sweep(ctx)).To(Succeed())
			Expect(apierrors.IsNotFound(seed.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource))).To(BeTrue())
		})

		It("are not removed if the Extension was created again", func(ctx SpecContext) {
			retire(ctx)
			Expect(seed.Create(ctx, ex)).To(Succeed())
			Expect(janitor.sweep(ctx)).To(Succeed())
			Expect(isAsked(ctx)).To(BeFalse())

			clock.Step(time.Minute)
			cluster := sync(ctx, gardencorev1beta1.LastOperationStateSucceeded)
			Expect(janitor.sweep(ctx)).To(Succeed())
			Expect(isAsked(ctx)).To(BeTrue())
			Expect(present(ctx)).To(HaveLen(1))
			plan := planServices(present(ctx), nil, nodesUpdated(cluster.Shoot), clock.Now())
			Expect(plan.retired).To(BeEmpty(), "the actuator and the janitor agree")
		})

		DescribeTable("are left to", func(ctx SpecContext, prepare func()) {
			retire(ctx)
			clock.Step(time.Minute)
			prepare()
			sync(ctx, gardencorev1beta1.LastOperationStateSucceeded)
			Expect(seed.Create(ctx, ex)).To(Succeed())
			before := ex.ResourceVersion
			Expect(janitor.sweep(ctx)).To(Succeed())
			Expect(seed.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
			Expect(ex.ResourceVersion).To(Equal(before))
			Expect(present(ctx)).To(HaveLen(1))
		},
			Entry("the next attempt if the Extension failed", func() { ex.Status.LastOperation.State = gardencorev1beta1.LastOperationStateError }),
			Entry("a requested operation", func() {
				ex.Annotations = map[string]string{v1beta1constants.GardenerOperation: v1beta1constants.GardenerOperationRestore}
			}),
			Entry("the wake-up of a hibernated Shoot", func() {
				shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)}
			}),
		)

		It("are deployed again if their Secret is lost", func(ctx SpecContext) {
			retire(ctx)
			Expect(seed.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(namespace))).To(Succeed())
			Expect(present(ctx)).To(BeEmpty())
		})

		It("are removed from a Shoot in deletion, which has no nodes", func(ctx SpecContext) {
			retire(ctx)
			shoot.DeletionTimestamp = new(metav1.Now())
			sync(ctx, gardencorev1beta1.LastOperationStateProcessing)
			Expect(janitor.sweep(ctx)).To(Succeed())
			Expect(present(ctx)).To(BeEmpty())
		})
	})
})
