// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/controller/shoot/shoottest"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// fakePullSecrets is what a look at pull secrets finds.
type fakePullSecrets struct {
	seen  PullSecrets
	err   error
	looks int
}

func (f *fakePullSecrets) LookAtPullSecrets(context.Context, string) (PullSecrets, error) {
	f.looks++
	return f.seen, f.err
}

var _ = Describe("Pull secrets", func() {
	const host, cacheName = "private.example.com", "registry-private-example-com"
	var (
		ctx         = context.Background()
		c           client.Client
		decoder     *codec.Codec
		clock       = clocktesting.NewFakeClock(time.Unix(1000, 0))
		pullSecrets *fakePullSecrets
		reconciler  *Reconciler
		shoots      *fakeShoots
		recorder    *events.FakeRecorder
		ex          *extensionsv1alpha1.Extension
		shoot       *gardencorev1beta1.Shoot
		cache       registry.RegistryCacheStatus
	)

	BeforeEach(func() {
		var err error
		decoder, err = codec.New()
		Expect(err).NotTo(HaveOccurred())
		pullSecrets = &fakePullSecrets{seen: PullSecrets{Report: &pullsecret.Report{Feed: "x"}, Feed: "x"}}
		reconciler = &Reconciler{Codec: decoder, PullSecrets: pullSecrets, Clock: clock}
		shoots = &fakeShoots{clock: clock, caches: map[string]Cache{cacheName: seen(replica(credentials.StateActive, "v1", ""))}}
		recorder = events.NewFakeRecorder(10)
		ex = &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: "shoot--dev--example", Name: "registry-cache"}}
		shoot = &gardencorev1beta1.Shoot{TypeMeta: metav1.TypeMeta{APIVersion: "core.gardener.cloud/v1beta1", Kind: "Shoot"}}
		cache = registry.RegistryCacheStatus{
			Upstream: host, Endpoint: "http://10.0.0.1:5000", RemoteURL: "https://" + host,
			Credentials: new(credentialsStatus(registry.CredentialsActive, "v1", "")),
			PullSecret:  &registry.PullSecretStatus{Name: "pulls", SecretNames: []string{"v1"}},
		}
	})

	look := func() {
		GinkgoHelper()
		raw, err := decoder.EncodeStatus(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{cache}})
		Expect(err).NotTo(HaveOccurred())
		ex.Status.ProviderStatus = raw
		encoded, err := runtime.Encode(kubernetes.GardenCodec.LegacyCodec(gardencorev1beta1.SchemeGroupVersion), shoot)
		Expect(err).NotTo(HaveOccurred())
		ex.ResourceVersion = ""
		c = fake.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithStatusSubresource(ex).WithObjects(ex.DeepCopy(), &extensionsv1alpha1.Cluster{
			ObjectMeta: metav1.ObjectMeta{Name: ex.Namespace},
			Spec:       extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: encoded}, Seed: &runtime.RawExtension{Raw: []byte(`{}`)}, CloudProfile: runtime.RawExtension{Raw: []byte(`{}`)}},
		}).Build()
		reconciler.Client, reconciler.Reader, reconciler.Shoots, reconciler.Recorder = c, c, shoots, recorder
		_, err = reconciler.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(ex)})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
		status, err := decoder.DecodeStatus(ex.Status.ProviderStatus)
		Expect(err).NotTo(HaveOccurred())
		cache = status.Caches[0]
	}
	condition := func() *metav1.Condition {
		return meta.FindStatusCondition(cache.Conditions, registry.ConditionPullSecretReady)
	}
	requested := func() bool {
		return ex.Annotations[v1beta1constants.GardenerOperation] == v1beta1constants.GardenerOperationReconcile
	}
	check := func() (gardencorev1beta1.ConditionStatus, string, []gardencorev1beta1.ErrorCode) {
		GinkgoHelper()
		result, err := (&Check{Client: c, Codec: decoder, Clock: clock, OptionalManagedResources: []string{"missing"}}).Check(ctx, types.NamespacedName{Namespace: ex.Namespace, Name: ex.Name})
		Expect(err).NotTo(HaveOccurred())
		return result.Status, result.Detail, result.Codes
	}

	It("have a condition beside that of the cache", func() {
		look()
		Expect(condition()).To(HaveField("Status", metav1.ConditionTrue))
		Expect(ready(cache)).To(HaveField("Status", metav1.ConditionTrue))
		Expect(requested()).To(BeFalse())
		Expect(recorder.Events).To(BeEmpty())
		status, _, _ := check()
		Expect(status).To(Equal(gardencorev1beta1.ConditionTrue))
	})

	It("report a foreign Secret to its owner, once", func() {
		look()
		pullSecrets.seen.Report.Secrets = []pullsecret.SecretReport{{Name: "pulls", Foreign: pullsecret.Namespaces{Listed: []string{"team-a"}, Count: 1}}}
		look()
		Expect(condition()).To(And(HaveField("Status", metav1.ConditionFalse), HaveField("Reason", "ForeignSecret")))
		Expect(recorder.Events).To(Receive(ContainSubstring("Warning ForeignSecret Registry cache for private.example.com: Pull secret \"pulls\" is missing in namespace team-a")))
		status, detail, codes := check()
		Expect(status).To(Equal(gardencorev1beta1.ConditionProgressing))
		Expect(detail).To(ContainSubstring("namespace team-a"))
		Expect(codes).To(BeEmpty())
		look()
		Expect(recorder.Events).To(BeEmpty())

		By("Solve it")
		pullSecrets.seen.Report.Secrets = nil
		look()
		Expect(condition()).To(HaveField("Status", metav1.ConditionTrue))
		Expect(recorder.Events).To(Receive(ContainSubstring("Normal PullSecretReady")))
	})

	It("wait for a controller that does not run yet", func() {
		pullSecrets.seen = PullSecrets{Problem: readiness.Problem{Reason: readiness.ReplicaMissing, Message: "Pod x does not exist."}}
		look()
		Expect(condition()).To(HaveField("Status", metav1.ConditionFalse))
		status, _, _ := check()
		Expect(status).To(Equal(gardencorev1beta1.ConditionProgressing))
	})

	It("get a credential that the upstream has accepted for the first time", func() {
		cache.PullSecret.SecretNames = nil
		cache.Credentials = new(credentialsStatus(registry.CredentialsPending, "v1", ""))
		look()
		Expect(cache.Credentials.State).To(Equal(registry.CredentialsActive))
		Expect(requested()).To(BeTrue())
		Expect(condition()).To(HaveField("Status", metav1.ConditionUnknown))
	})

	It("do not ask for a reconciliation that fails anyway", func() {
		cache.PullSecret.SecretNames = nil
		ex.Status.LastError = &gardencorev1beta1.LastError{}
		look()
		Expect(requested()).To(BeFalse())
	})

	DescribeTable("keep their condition for a while if nothing is known", func(change func(), patience time.Duration, reason readiness.Reason) {
		look()
		change()
		look()
		clock.Step(patience - time.Second)
		look()
		Expect(condition()).To(HaveField("Status", metav1.ConditionTrue))
		clock.Step(2 * time.Second)
		look()
		Expect(condition()).To(And(HaveField("Status", metav1.ConditionUnknown), HaveField("Reason", string(reason))))
	},
		Entry("since the look fails", func() { pullSecrets.err = errors.New("no connection") }, silence, readiness.NotObserved),
		Entry("since the API server does not respond", func() { pullSecrets.err = context.DeadlineExceeded }, silence, readiness.ShootUnreachable),
		Entry("since the controller does not respond", func() { pullSecrets.seen.Report = nil }, silence, readiness.ReportsMissing),
		Entry("since the controller follows another feed", func() { pullSecrets.seen.Feed = "y" }, unsettled, readiness.PullSecretPending),
	)

	It("are unknown in a hibernated Shoot, whatever they were before", func() {
		pullSecrets.seen.Report.Secrets = []pullsecret.SecretReport{{Name: "pulls", Credential: "rejected"}}
		look()
		Expect(condition()).To(HaveField("Status", metav1.ConditionFalse))
		looks := pullSecrets.looks
		shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)}
		look()
		Expect(condition()).To(And(HaveField("Status", metav1.ConditionUnknown), HaveField("Reason", "Hibernated")))
		Expect(pullSecrets.looks).To(Equal(looks))
		status, _, _ := check()
		Expect(status).To(Equal(gardencorev1beta1.ConditionTrue))
	})

	It("are not looked at if there are none", func() {
		cache.PullSecret = nil
		look()
		Expect(pullSecrets.looks).To(BeZero())
		Expect(condition()).To(BeNil())
	})

	It("are described once if caches share them", func() {
		look()
		summary := &summary{}
		broken := metav1.Condition{Type: registry.ConditionPullSecretReady, Status: metav1.ConditionFalse, Reason: "PullSecretFailed", Message: "Pull secret x."}
		summary.addKept(&broken)
		summary.addKept(&broken)
		Expect(summary.details).To(Equal([]string{"Pull secret x."}))
	})
})

var _ = DescribeTable("A look at the controller of pull secrets finds", func(ctx SpecContext, digest string, phase corev1.PodPhase, expected gomegatypes.GomegaMatcher) {
	report := pullsecret.Report{Feed: "followed"}
	api := &fakeAPI{replicas: 1, pod: corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	api.respond = func(w http.ResponseWriter, _ *http.Request) { reply(w, report) }
	server := httptest.NewTLSServer(api)
	DeferCleanup(server.Close)
	seed := fake.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(shoottest.Kubeconfig(server))
	if digest != "" {
		seed.WithObjects(&resourcesv1alpha1.ManagedResource{ObjectMeta: metav1.ObjectMeta{
			Namespace: shoottest.Namespace, Name: pullsecrets.ManagedResource, Labels: map[string]string{pullsecrets.FeedLabel: digest},
		}})
	}
	shoots := &Shoots{Client: seed.Build(), ReportsTimeout: 10 * time.Second, Now: time.Now}
	Expect(shoots.LookAtPullSecrets(ctx, shoottest.Namespace)).To(expected)
},
	Entry("its report, and the feed that it should follow", "deployed", corev1.PodRunning, Equal(PullSecrets{Report: &pullsecret.Report{Feed: "followed"}, Feed: "deployed"})),
	Entry("no feed if none is deployed", "", corev1.PodRunning, Equal(PullSecrets{Report: &pullsecret.Report{Feed: "followed"}})),
	Entry("no report of a pod that does not run", "deployed", corev1.PodPending, Equal(PullSecrets{Feed: "deployed"})),
)
