// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"strings"
	"time"

	"github.com/gardener/gardener/extensions/pkg/controller/healthcheck"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/credentials"
)

func reports(state credentials.State, name, pending string) credentialstate.Replica {
	report := &credentials.Report{State: state, SecretName: name, PendingSecretName: pending, Message: "upstream registry.example.com: status 401"}
	if state == credentials.StateRejected {
		report.UpstreamStatusCode = 401
	}
	return credentialstate.Replica{Name: "pod", Report: report}
}

func status(state registry.CredentialsState, name, pending string) registry.CredentialsStatus {
	return registry.CredentialsStatus{State: state, SecretName: name, PendingSecretName: pending, Since: metav1.NewTime(time.Unix(1, 0))}
}

var _ = Describe("Health", func() {
	cache := func(upstream string, credentials registry.CredentialsStatus) registry.RegistryCacheStatus {
		return registry.RegistryCacheStatus{Upstream: upstream, Credentials: &credentials}
	}
	rejected := status(registry.CredentialsRejected, "robot-v1", "robot-v2")
	rejected.UpstreamStatusCode, rejected.Message = new(int32(401)), "upstream b.example.com: status 401"

	It("is good without credentials, and with active ones", func() {
		Expect(health(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{
			{Upstream: "anonymous.example.com"}, cache("a.example.com", status(registry.CredentialsActive, "v1", "")),
		}})).To(Equal(&healthcheck.SingleCheckResult{Status: gardencorev1beta1.ConditionTrue}))
	})

	It("progresses while credentials are pending, but not for ever", func() {
		result := health(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{cache("a.example.com", status(registry.CredentialsPending, "robot-v1", "robot-v2"))}})
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionProgressing))
		Expect(result.ProgressingThreshold).To(HaveValue(Equal(pendingThreshold)))
		Expect(result.Detail).To(And(ContainSubstring("a.example.com"), ContainSubstring(`"robot-v1"`), ContainSubstring(`"robot-v2"`)))
	})

	It("is bad if credentials are rejected, with a code, the Secret and the active Secret", func() {
		result := health(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{
			cache("b.example.com", rejected), cache("a.example.com", status(registry.CredentialsPending, "v1", "v2")), cache("c.example.com", rejected),
		}})
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionFalse))
		Expect(result.ProgressingThreshold).To(BeNil())
		Expect(result.Codes).To(Equal([]gardencorev1beta1.ErrorCode{gardencorev1beta1.ErrorInfraUnauthorized}))
		Expect(result.Detail).To(And(
			ContainSubstring(`The upstream b.example.com rejects the Secret "robot-v2" of its registry cache with status 401`), ContainSubstring(`uses the Secret "robot-v1", which must stay valid`)))
	})

	It("is bad if credentials are missing", func() {
		result := health(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{cache("a.example.com", status(registry.CredentialsMissing, "v1", ""))}})
		Expect(result.Codes).To(Equal([]gardencorev1beta1.ErrorCode{gardencorev1beta1.ErrorConfigurationProblem}))
	})
})

type fakeShoots map[string]credentialstate.Replicas

func (f fakeShoots) Replicas(context.Context, string, []string) (map[string]credentialstate.Replicas, error) {
	return f, nil
}

var _ = Describe("Reconciler", func() {
	var (
		ctx        = context.Background()
		c          client.Client
		decoder    *codec.Codec
		shoots     fakeShoots
		recorder   *events.FakeRecorder
		clock      *clocktesting.FakeClock
		reconciler *Reconciler
		ex         *extensionsv1alpha1.Extension
		shoot      *gardencorev1beta1.Shoot
	)

	setStatus := func(credentials registry.CredentialsStatus) {
		GinkgoHelper()
		raw, err := decoder.EncodeStatus(&registry.RegistryStatus{CASecretName: new("ca"), Caches: []registry.RegistryCacheStatus{
			{Upstream: "docker.io", Endpoint: "http://10.0.0.1:5000", RemoteURL: "https://registry-1.docker.io"},
			{Upstream: "private.example.com", Endpoint: "http://10.0.0.2:5000", RemoteURL: "https://private.example.com", Credentials: &credentials},
		}})
		Expect(err).NotTo(HaveOccurred())
		ex.Status.ProviderStatus = raw
	}
	present := func() registry.CredentialsStatus {
		GinkgoHelper()
		Expect(c.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
		status, err := decoder.DecodeStatus(ex.Status.ProviderStatus)
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Caches).To(HaveLen(2))
		Expect(status.Caches[0].Credentials).To(BeNil())
		return *status.Caches[1].Credentials
	}
	run := func() reconcile.Result {
		GinkgoHelper()
		result, err := reconciler.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(ex)})
		Expect(err).NotTo(HaveOccurred())
		return result
	}

	BeforeEach(func() {
		var err error
		decoder, err = codec.New()
		Expect(err).NotTo(HaveOccurred())
		clock = clocktesting.NewFakeClock(time.Unix(1000, 0))
		recorder = events.NewFakeRecorder(10)
		shoots = fakeShoots{}
		shoot = &gardencorev1beta1.Shoot{TypeMeta: metav1.TypeMeta{APIVersion: "core.gardener.cloud/v1beta1", Kind: "Shoot"}}
		ex = &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: "shoot--dev--example", Name: "registry-cache"}}
		setStatus(registry.CredentialsStatus{SecretName: "v1", PendingSecretName: "v2", State: registry.CredentialsPending, Since: metav1.NewTime(clock.Now())})
	})

	JustBeforeEach(func() {
		raw, err := runtime.Encode(kubernetes.GardenCodec.LegacyCodec(gardencorev1beta1.SchemeGroupVersion), shoot)
		Expect(err).NotTo(HaveOccurred())
		c = fake.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithStatusSubresource(ex).WithObjects(ex, &extensionsv1alpha1.Cluster{
			ObjectMeta: metav1.ObjectMeta{Name: ex.Namespace},
			Spec:       extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: raw}, Seed: &runtime.RawExtension{Raw: []byte(`{}`)}, CloudProfile: runtime.RawExtension{Raw: []byte(`{}`)}},
		}).Build()
		reconciler = &Reconciler{Client: c, Codec: decoder, Shoots: shoots, Recorder: recorder, Clock: clock}
	})

	It("reports that all replicas have activated a credential, and requests the removal of the previous one", func() {
		shoots["registry-private-example-com"] = credentialstate.Replicas{Desired: 1, Running: []credentialstate.Replica{reports(credentials.StateActive, "v1", "")}}
		Expect(run().RequeueAfter).To(Equal(soon))
		Expect(present().State).To(Equal(registry.CredentialsPending))
		Expect(recorder.Events).NotTo(Receive())
		Expect(ex.Annotations).To(BeEmpty())

		clock.Step(time.Minute)
		shoots["registry-private-example-com"] = credentialstate.Replicas{Desired: 1, Running: []credentialstate.Replica{reports(credentials.StateActive, "v2", "")}}
		Expect(run().RequeueAfter).To(Equal(soon), "the previous one is still deployed")
		Expect(present()).To(And(
			HaveField("SecretName", "v2"), HaveField("PendingSecretName", ""), HaveField("PreviousSecretName", "v1"), HaveField("State", registry.CredentialsActive),
			HaveField("Since.Time", BeTemporally("==", clock.Now()))))
		Expect(recorder.Events).To(Receive(And(HavePrefix("Normal CredentialsActive"), ContainSubstring(`"v2"`))))
		Expect(ex.Annotations).To(HaveKeyWithValue(v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile))

		By("repeating the request while the previous one is deployed")
		patch := client.MergeFrom(ex.DeepCopy())
		delete(ex.Annotations, v1beta1constants.GardenerOperation)
		Expect(c.Patch(ctx, ex, patch)).To(Succeed())
		run()
		present()
		Expect(ex.Annotations).To(HaveKeyWithValue(v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile))
		Expect(recorder.Events).NotTo(Receive())
	})

	It("requests no removal after the first credential", func() {
		setStatus(registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsPending, Since: metav1.NewTime(clock.Now())})
		Expect(c.Status().Update(ctx, ex)).To(Succeed())
		shoots["registry-private-example-com"] = credentialstate.Replicas{Desired: 1, Running: []credentialstate.Replica{reports(credentials.StateActive, "v1", "")}}
		Expect(run().RequeueAfter).To(Equal(later))
		Expect(present()).To(And(HaveField("State", registry.CredentialsActive), HaveField("PreviousSecretName", "")))
		Expect(ex.Annotations).To(BeEmpty())
	})

	It("does nothing once the Shoot has left the seed", func() {
		ex.Status.LastOperation = &gardencorev1beta1.LastOperation{Type: gardencorev1beta1.LastOperationTypeMigrate, State: gardencorev1beta1.LastOperationStateSucceeded}
		Expect(c.Status().Update(ctx, ex)).To(Succeed())
		shoots["registry-private-example-com"] = credentialstate.Replicas{Desired: 1, Running: []credentialstate.Replica{reports(credentials.StateActive, "v2", "")}}
		Expect(run()).To(BeZero())
		Expect(present().State).To(Equal(registry.CredentialsPending))
	})

	It("reports a rejection once", func() {
		shoots["registry-private-example-com"] = credentialstate.Replicas{Desired: 1, Running: []credentialstate.Replica{reports(credentials.StateRejected, "v1", "v2")}}
		Expect(run().RequeueAfter).To(Equal(soon))
		Expect(present()).To(And(
			HaveField("SecretName", "v1"), HaveField("PendingSecretName", "v2"), HaveField("State", registry.CredentialsRejected),
			HaveField("UpstreamStatusCode", HaveValue(BeEquivalentTo(401))), HaveField("Message", ContainSubstring("registry.example.com"))))
		Expect(recorder.Events).To(Receive(HavePrefix("Warning CredentialsRejected")))
		Expect(ex.Annotations).To(BeEmpty())

		version := ex.ResourceVersion
		clock.Step(time.Hour)
		Expect(run().RequeueAfter).To(Equal(later), "the owner no longer waits")
		present()
		Expect(ex.ResourceVersion).To(Equal(version))
		Expect(recorder.Events).NotTo(Receive())
	})

	Context("with a requested operation", func() {
		BeforeEach(func() {
			ex.Annotations = map[string]string{v1beta1constants.GardenerOperation: v1beta1constants.GardenerOperationRestore}
		})

		It("does not replace the request", func() {
			shoots["registry-private-example-com"] = credentialstate.Replicas{Desired: 1, Running: []credentialstate.Replica{reports(credentials.StateActive, "v2", "")}}
			run()
			Expect(present().State).To(Equal(registry.CredentialsActive))
			Expect(ex.Annotations).To(HaveKeyWithValue(v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationRestore))
		})
	})

	Context("with a hibernated Shoot", func() {
		BeforeEach(func() { shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)} })

		It("does nothing", func() {
			shoots["registry-private-example-com"] = credentialstate.Replicas{Desired: 1, Running: []credentialstate.Replica{reports(credentials.StateRejected, "v1", "v2")}}
			Expect(run()).To(BeZero())
			Expect(present().State).To(Equal(registry.CredentialsPending))
		})
	})

	Context("without a status", func() {
		BeforeEach(func() { ex.Status.ProviderStatus = nil })

		It("does nothing", func() { Expect(run()).To(BeZero()) })
	})
})

var _ = Describe("A report", func() {
	var statuses *codec.Codec

	BeforeEach(func() {
		var err error
		statuses, err = codec.New()
		Expect(err).NotTo(HaveOccurred())
	})

	extension := func(credentials registry.CredentialsStatus) *extensionsv1alpha1.Extension {
		GinkgoHelper()
		status, err := statuses.EncodeStatus(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{{Upstream: "private.example.com", Credentials: &credentials}}})
		Expect(err).NotTo(HaveOccurred())
		return &extensionsv1alpha1.Extension{Status: extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{ProviderStatus: status}}}
	}

	DescribeTable("causes no reconciliation", func(before, after registry.CredentialsStatus, expected bool) {
		Expect(wantedChanged(statuses).Update(event.UpdateEvent{ObjectOld: extension(before), ObjectNew: extension(after)})).To(Equal(expected))
	},
		Entry("when status 401mething else", status(registry.CredentialsActive, "v1", ""), status(registry.CredentialsRejected, "v1", ""), false),
		Entry("if it changes the message", status(registry.CredentialsPending, "v1", "v2"),
			registry.CredentialsStatus{State: registry.CredentialsPending, SecretName: "v1", PendingSecretName: "v2", Message: "other"}, false),
		Entry("unlike another wanted credential", status(registry.CredentialsActive, "v1", ""), status(registry.CredentialsPending, "v1", "v2"), true),
	)

	It("does not make conditions and events grow with its length", func() {
		longest := strings.Repeat("x", 253)
		caches := make([]registry.RegistryCacheStatus, 1000)
		for i := range caches {
			credentials := status(registry.CredentialsRejected, longest, longest)
			credentials.Message = strings.Repeat("m", maxMessage)
			caches[i] = registry.RegistryCacheStatus{Upstream: longest, Credentials: &credentials}
		}
		detail := health(&registry.RegistryStatus{Caches: caches}).Detail
		Expect(len(detail)).To(BeNumerically("<", 16<<10))
		Expect(detail).To(HaveSuffix("And 990 more; see the provider status of the Extension."))

		recorder := events.NewFakeRecorder(1)
		(&Reconciler{Recorder: recorder}).record(context.Background(), extension(*caches[0].Credentials), caches[0])
		var note string
		Expect(recorder.Events).To(Receive(&note))
		Expect(len(strings.TrimPrefix(note, "Warning CredentialsRejected "))).To(BeNumerically("<=", 1024))
	})
})
