// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"strings"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/problem"
)

var _ = Describe("Observability", func() {
	const namespace = "shoot--foo--bar"
	var (
		actuator *Actuator
		recorder *events.FakeRecorder
		clock    *clocktesting.FakePassiveClock
		seed     client.WithWatch
		cluster  *extensionscontroller.Cluster
		caches   []deployment
		writes   int
		failing  error
	)

	// count counts the writes to the seed, and lets all calls for a kind of prometheus-operator fail if failing is set.
	count := func(object client.Object, write bool) error {
		if write {
			writes++
		}
		if _, plain := object.(*corev1.ConfigMap); plain {
			return nil
		}
		return failing
	}

	BeforeEach(func() {
		writes, failing = 0, nil
		seed = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
				if err := count(object, false); err != nil {
					return err
				}
				return c.Get(ctx, key, object, options...)
			},
			Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
				if err := count(object, true); err != nil {
					return err
				}
				return c.Create(ctx, object, options...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
				if err := count(object, true); err != nil {
					return err
				}
				return c.Patch(ctx, object, patch, options...)
			},
			Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
				if err := count(object, true); err != nil {
					return err
				}
				return c.Delete(ctx, object, options...)
			},
		}).Build()
		recorder = events.NewFakeRecorder(1)
		clock = clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
		actuator = &Actuator{Client: seed, Recorder: recorder, Clock: clocktesting.NewFakeClock(clock.Now())}
		cluster = &extensionscontroller.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Shoot: &gardencorev1beta1.Shoot{}}
		caches = []deployment{{Values: component.Values{Cache: registry.RegistryCache{
			Upstream: "docker.io", HighAvailability: &registry.HighAvailability{},
		}}}}
	})

	objects := func() []client.Object {
		meta := metav1.ObjectMeta{Namespace: namespace, Name: "shoot-registry-cache"}
		return []client.Object{
			&monitoringv1alpha1.ScrapeConfig{ObjectMeta: meta},
			&monitoringv1.PrometheusRule{ObjectMeta: meta},
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-cache-dashboards"}},
		}
	}
	found := func(ctx context.Context) (found int) {
		for _, object := range objects() {
			if seed.Get(ctx, client.ObjectKeyFromObject(object), object) == nil {
				found++
			}
		}
		return found
	}

	It("is written once", func(ctx SpecContext) {
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		Expect(found(ctx)).To(Equal(3))
		Expect(writes).To(Equal(3))
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		Expect(writes).To(Equal(3))
	})

	It("follows the caches", func(ctx SpecContext) {
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		caches[0].Cache.HighAvailability.Enabled = true
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		Expect(writes).To(Equal(5), "the scrape configuration and the rules")
	})

	It("takes over the objects of another implementation and leaves foreign labels alone", func(ctx SpecContext) {
		for _, object := range objects() {
			object.SetLabels(map[string]string{"other": "label"})
			Expect(seed.Create(ctx, object)).To(Succeed())
		}
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		for _, object := range objects() {
			Expect(seed.Get(ctx, client.ObjectKeyFromObject(object), object)).To(Succeed())
			Expect(object.GetLabels()).To(And(HaveKeyWithValue("other", "label"), HaveKeyWithValue("component", "registry-cache")))
		}
	})

	It("is deleted when the purpose of the Shoot becomes testing, and then not written again", func(ctx SpecContext) {
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		cluster.Shoot.Spec.Purpose = new(gardencorev1beta1.ShootPurposeTesting)
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		Expect(found(ctx)).To(BeZero())
		Expect(writes).To(Equal(6))
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		Expect(writes).To(Equal(6))
	})

	It("skips kinds that the seed does not have", func(ctx SpecContext) {
		failing = &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: "monitoring.coreos.com", Kind: "ScrapeConfig"}}
		Expect(actuator.deployObservability(ctx, cluster, caches)).To(Succeed())
		Expect(writes).To(Equal(1), "the dashboard")
		Expect(actuator.deleteObservability(ctx, namespace)).To(Succeed())
	})

	It("deploys the rest if an object cannot be written", func(ctx SpecContext) {
		failing = errors.New("forbidden")
		err := actuator.deployObservability(ctx, cluster, caches)
		Expect(err).To(MatchError(And(ContainSubstring("deploy ScrapeConfig shoot-registry-cache: forbidden"), ContainSubstring("deploy PrometheusRule shoot-registry-cache: forbidden"))))
		failing = nil
		Expect(found(ctx)).To(Equal(1))
	})

	It("is no error of the Extension if it cannot be written, but an event of bounded length, and is tried again", func(ctx SpecContext) {
		ex := &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: registry.ExtensionType}}
		ex.Status.LastOperation = &gardencorev1beta1.LastOperation{State: gardencorev1beta1.LastOperationStateSucceeded}
		Expect(seed.Create(ctx, ex)).To(Succeed())
		janitor := &Janitor{Client: seed, Clock: clock, Unobserved: &actuator.Unobserved, Log: logr.Discard()}
		requested := func() bool {
			GinkgoHelper()
			Expect(janitor.retryObservability(ctx)).To(Succeed())
			Expect(seed.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
			_, found := ex.Annotations[v1beta1constants.GardenerOperation]
			return found
		}
		failing = errors.New(strings.Repeat("denied\n", 1<<17))
		actuator.observeCaches(ctx, logr.Discard(), ex, cluster, caches)
		event := <-recorder.Events
		Expect(event).To(And(HavePrefix("Warning ObservabilityNotDeployed "), ContainSubstring("deploy ScrapeConfig shoot-registry-cache: denied denied")))
		Expect(len(event)).To(BeNumerically("<=", len("Warning ObservabilityNotDeployed ")+problem.MaxNote))

		failing = nil
		Expect(requested()).To(BeFalse(), "it is too early")
		clock.SetTime(clock.Now().Add(retryObservability))
		Expect(requested()).To(BeTrue())

		ex.Annotations = nil
		Expect(seed.Update(ctx, ex)).To(Succeed())
		actuator.observeCaches(ctx, logr.Discard(), ex, cluster, caches)
		Expect(found(ctx)).To(Equal(3))
		Expect(recorder.Events).NotTo(Receive())
		clock.SetTime(clock.Now().Add(24 * time.Hour))
		Expect(requested()).To(BeFalse())
	})

	It("expects the replicas of a cache that keeps its deployed objects", func() {
		cache := caches[0]
		Expect(cache.replicas()).To(BeEquivalentTo(1))
		cache.Deployed = []client.Object{&corev1.Secret{}, &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: new(int32(2))}}}
		Expect(cache.replicas()).To(BeEquivalentTo(2))
	})
})
