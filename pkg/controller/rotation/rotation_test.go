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
	"github.com/larder-project/larder/pkg/credentials"
)

func says(state credentials.State, name, pending string) Replica {
	report := &credentials.Report{State: state, SecretName: name, PendingSecretName: pending, Message: "upstream registry.example.com: it says so"}
	if state == credentials.StateRejected {
		report.UpstreamStatusCode = 401
	}
	return Replica{Name: "pod", Report: report}
}

func status(state registry.CredentialsState, name, pending string) registry.CredentialsStatus {
	return registry.CredentialsStatus{State: state, SecretName: name, PendingSecretName: pending, Since: metav1.NewTime(time.Unix(1, 0))}
}

// after is a status whose credentials took the place of others, which have not been removed yet.
func after(previous string, status registry.CredentialsStatus) registry.CredentialsStatus {
	status.PreviousSecretName = previous
	return status
}

var _ = DescribeTable("The verdict", func(before registry.CredentialsStatus, replicas Replicas, expected registry.CredentialsStatus) {
	now := metav1.NewTime(time.Unix(2, 0))
	got := judge(before, replicas, now)
	if expected.State != before.State || Wanted(&expected) != Wanted(&before) {
		expected.Since = now
	}
	expected.Message, expected.UpstreamStatusCode = got.Message, nil
	if expected.State == registry.CredentialsRejected && expected.State != before.State {
		expected.UpstreamStatusCode = new(int32(401))
	}
	Expect(got).To(Equal(expected))
},
	Entry("active when the only replica says so",
		status(registry.CredentialsPending, "v1", ""), Replicas{1, []Replica{says(credentials.StateActive, "v1", "")}},
		status(registry.CredentialsActive, "v1", "")),
	Entry("active when all replicas have taken over",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{says(credentials.StateActive, "v2", ""), says(credentials.StateActive, "v2", "")}},
		after("v1", status(registry.CredentialsActive, "v2", ""))),
	Entry("active, and not for the first time, while the old ones are still there",
		after("v1", status(registry.CredentialsActive, "v2", "")), Replicas{1, []Replica{says(credentials.StateActive, "v2", "")}},
		after("v1", status(registry.CredentialsActive, "v2", ""))),
	Entry("pending while one of two still has the old ones only",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{says(credentials.StateActive, "v2", ""), says(credentials.StateActive, "v1", "")}},
		status(registry.CredentialsPending, "v1", "v2")),
	Entry("pending while one of two is trying",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{says(credentials.StateActive, "v2", ""), says(credentials.StatePending, "v1", "v2")}},
		status(registry.CredentialsPending, "v1", "v2")),
	Entry("pending while one of two does not run",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{says(credentials.StateActive, "v2", "")}},
		status(registry.CredentialsPending, "v1", "v2")),
	Entry("pending while one does not answer",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{1, []Replica{says(credentials.StateActive, "v2", ""), {Name: "silent"}}},
		status(registry.CredentialsPending, "v1", "v2")),
	Entry("pending while nothing runs",
		status(registry.CredentialsPending, "v1", ""), Replicas{},
		status(registry.CredentialsPending, "v1", "")),
	Entry("rejected when one says so",
		status(registry.CredentialsPending, "v1", "v2"), Replicas{2, []Replica{says(credentials.StateActive, "v2", ""), says(credentials.StateRejected, "v1", "v2")}},
		status(registry.CredentialsRejected, "v1", "v2")),
	Entry("rejected when those in use are no longer accepted",
		status(registry.CredentialsActive, "v1", ""), Replicas{1, []Replica{says(credentials.StateRejected, "v1", "")}},
		status(registry.CredentialsRejected, "v1", "")),
	Entry("pending when others are rejected than those that are wanted",
		status(registry.CredentialsPending, "v1", "v3"), Replicas{1, []Replica{says(credentials.StateRejected, "v1", "v2")}},
		status(registry.CredentialsPending, "v1", "v3")),
	Entry("missing when a replica cannot read any",
		status(registry.CredentialsActive, "v1", ""), Replicas{1, []Replica{says(credentials.StateMissing, "", "")}},
		status(registry.CredentialsMissing, "v1", "")),
	Entry("active while a replica restarts",
		status(registry.CredentialsActive, "v2", ""), Replicas{2, []Replica{says(credentials.StateActive, "v2", ""), says(credentials.StatePending, "v2", "")}},
		status(registry.CredentialsActive, "v2", "")),
	Entry("active while nobody answers",
		status(registry.CredentialsActive, "v2", ""), Replicas{1, []Replica{{Name: "silent"}}},
		status(registry.CredentialsActive, "v2", "")),
	Entry("rejected until all say otherwise",
		status(registry.CredentialsRejected, "v1", "v2"), Replicas{1, []Replica{says(credentials.StatePending, "v1", "v2")}},
		status(registry.CredentialsRejected, "v1", "v2")),
	Entry("active when the upstream came to accept them",
		status(registry.CredentialsRejected, "v1", "v2"), Replicas{1, []Replica{says(credentials.StateActive, "v2", "")}},
		after("v1", status(registry.CredentialsActive, "v2", ""))),
)

var _ = Describe("Health", func() {
	cache := func(upstream string, credentials registry.CredentialsStatus) registry.RegistryCacheStatus {
		return registry.RegistryCacheStatus{Upstream: upstream, Credentials: &credentials}
	}
	rejected := status(registry.CredentialsRejected, "robot-v1", "robot-v2")
	rejected.UpstreamStatusCode, rejected.Message = new(int32(401)), "upstream b.example.com: its token service answered 401 to the credential"

	It("is good without credentials, and with those that are in use", func() {
		Expect(health(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{
			{Upstream: "anonymous.example.com"}, cache("a.example.com", status(registry.CredentialsActive, "v1", "")),
		}})).To(Equal(&healthcheck.SingleCheckResult{Status: gardencorev1beta1.ConditionTrue}))
	})

	It("is on its way while credentials are pending, but not for ever", func() {
		result := health(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{cache("a.example.com", status(registry.CredentialsPending, "robot-v1", "robot-v2"))}})
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionProgressing))
		Expect(result.ProgressingThreshold).To(HaveValue(Equal(patience)))
		Expect(result.Detail).To(And(ContainSubstring("a.example.com"), ContainSubstring(`"robot-v1"`), ContainSubstring(`"robot-v2"`)))
	})

	It("is bad, with a code, when credentials are rejected, and names all there is to name", func() {
		result := health(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{
			cache("b.example.com", rejected), cache("a.example.com", status(registry.CredentialsPending, "v1", "v2")), cache("c.example.com", rejected),
		}})
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionFalse))
		Expect(result.ProgressingThreshold).To(BeNil())
		Expect(result.Codes).To(Equal([]gardencorev1beta1.ErrorCode{gardencorev1beta1.ErrorInfraUnauthorized}))
		Expect(result.Detail).To(And(
			ContainSubstring(`The upstream b.example.com rejects with status 401 the Secret "robot-v2"`), ContainSubstring(`uses the credentials of the Secret "robot-v1", which must stay valid`)))
	})

	It("is bad when credentials are missing", func() {
		result := health(&registry.RegistryStatus{Caches: []registry.RegistryCacheStatus{cache("a.example.com", status(registry.CredentialsMissing, "v1", ""))}})
		Expect(result.Codes).To(Equal([]gardencorev1beta1.ErrorCode{gardencorev1beta1.ErrorConfigurationProblem}))
	})
})

type fakeShoots map[string]Replicas

func (f fakeShoots) Replicas(context.Context, string, []string) (map[string]Replicas, error) {
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

	It("says when all replicas have taken over, and has the old credentials removed", func() {
		shoots["registry-private-example-com"] = Replicas{1, []Replica{says(credentials.StateActive, "v1", "")}}
		Expect(run().RequeueAfter).To(Equal(soon))
		Expect(present().State).To(Equal(registry.CredentialsPending))
		Expect(recorder.Events).NotTo(Receive())
		Expect(ex.Annotations).To(BeEmpty())

		clock.Step(time.Minute)
		shoots["registry-private-example-com"] = Replicas{1, []Replica{says(credentials.StateActive, "v2", "")}}
		Expect(run().RequeueAfter).To(Equal(soon), "the old ones have to go yet")
		Expect(present()).To(And(
			HaveField("SecretName", "v2"), HaveField("PendingSecretName", ""), HaveField("PreviousSecretName", "v1"), HaveField("State", registry.CredentialsActive),
			HaveField("Since.Time", BeTemporally("==", clock.Now()))))
		Expect(recorder.Events).To(Receive(And(HavePrefix("Normal CredentialsActive"), ContainSubstring(`"v2"`))))
		Expect(ex.Annotations).To(HaveKeyWithValue(v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile))

		By("asking again when that came to nothing")
		patch := client.MergeFrom(ex.DeepCopy())
		delete(ex.Annotations, v1beta1constants.GardenerOperation)
		Expect(c.Patch(ctx, ex, patch)).To(Succeed())
		run()
		present()
		Expect(ex.Annotations).To(HaveKeyWithValue(v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile))
		Expect(recorder.Events).NotTo(Receive())
	})

	It("has nothing removed after the first ones", func() {
		setStatus(registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsPending, Since: metav1.NewTime(clock.Now())})
		Expect(c.Status().Update(ctx, ex)).To(Succeed())
		shoots["registry-private-example-com"] = Replicas{1, []Replica{says(credentials.StateActive, "v1", "")}}
		Expect(run().RequeueAfter).To(Equal(later))
		Expect(present()).To(And(HaveField("State", registry.CredentialsActive), HaveField("PreviousSecretName", "")))
		Expect(ex.Annotations).To(BeEmpty())
	})

	It("asks nobody once the Shoot has left the seed", func() {
		ex.Status.LastOperation = &gardencorev1beta1.LastOperation{Type: gardencorev1beta1.LastOperationTypeMigrate, State: gardencorev1beta1.LastOperationStateSucceeded}
		Expect(c.Status().Update(ctx, ex)).To(Succeed())
		shoots["registry-private-example-com"] = Replicas{1, []Replica{says(credentials.StateActive, "v2", "")}}
		Expect(run()).To(BeZero())
		Expect(present().State).To(Equal(registry.CredentialsPending))
	})

	It("says what the upstream has against the new ones, once", func() {
		shoots["registry-private-example-com"] = Replicas{1, []Replica{says(credentials.StateRejected, "v1", "v2")}}
		Expect(run().RequeueAfter).To(Equal(soon))
		Expect(present()).To(And(
			HaveField("SecretName", "v1"), HaveField("PendingSecretName", "v2"), HaveField("State", registry.CredentialsRejected),
			HaveField("UpstreamStatusCode", HaveValue(BeEquivalentTo(401))), HaveField("Message", ContainSubstring("registry.example.com"))))
		Expect(recorder.Events).To(Receive(HavePrefix("Warning CredentialsRejected")))
		Expect(ex.Annotations).To(BeEmpty())

		version := ex.ResourceVersion
		clock.Step(time.Hour)
		Expect(run().RequeueAfter).To(Equal(later), "nobody is waiting any more")
		present()
		Expect(ex.ResourceVersion).To(Equal(version))
		Expect(recorder.Events).NotTo(Receive())
	})

	Context("with an operation that is to begin", func() {
		BeforeEach(func() {
			ex.Annotations = map[string]string{v1beta1constants.GardenerOperation: v1beta1constants.GardenerOperationRestore}
		})

		It("leaves that alone", func() {
			shoots["registry-private-example-com"] = Replicas{1, []Replica{says(credentials.StateActive, "v2", "")}}
			run()
			Expect(present().State).To(Equal(registry.CredentialsActive))
			Expect(ex.Annotations).To(HaveKeyWithValue(v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationRestore))
		})
	})

	Context("with a hibernated Shoot", func() {
		BeforeEach(func() { shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)} })

		It("asks nobody", func() {
			shoots["registry-private-example-com"] = Replicas{1, []Replica{says(credentials.StateRejected, "v1", "v2")}}
			Expect(run()).To(BeZero())
			Expect(present().State).To(Equal(registry.CredentialsPending))
		})
	})

	Context("before there is a status", func() {
		BeforeEach(func() { ex.Status.ProviderStatus = nil })

		It("waits for one", func() { Expect(run()).To(BeZero()) })
	})
})

var _ = Describe("What a replica makes this controller do", func() {
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

	DescribeTable("is not to look again at once", func(before, after registry.CredentialsStatus, expected bool) {
		Expect(wantedChanged(statuses).Update(event.UpdateEvent{ObjectOld: extension(before), ObjectNew: extension(after)})).To(Equal(expected))
	},
		Entry("when it says something else", status(registry.CredentialsActive, "v1", ""), status(registry.CredentialsRejected, "v1", ""), false),
		Entry("when it says the same in other words", status(registry.CredentialsPending, "v1", "v2"),
			registry.CredentialsStatus{State: registry.CredentialsPending, SecretName: "v1", PendingSecretName: "v2", Message: "other"}, false),
		Entry("unlike others that are wanted", status(registry.CredentialsActive, "v1", ""), status(registry.CredentialsPending, "v1", "v2"), true),
	)

	It("is not to write conditions and events that grow with what it says", func() {
		longest := strings.Repeat("x", 253)
		caches := make([]registry.RegistryCacheStatus, 1000)
		for i := range caches {
			credentials := status(registry.CredentialsRejected, longest, longest)
			credentials.Message = strings.Repeat("m", maxMessage)
			caches[i] = registry.RegistryCacheStatus{Upstream: longest, Credentials: &credentials}
		}
		detail := health(&registry.RegistryStatus{Caches: caches}).Detail
		Expect(len(detail)).To(BeNumerically("<", 16<<10))
		Expect(detail).To(HaveSuffix("And 990 more, see the provider status of the Extension."))

		recorder := events.NewFakeRecorder(1)
		(&Reconciler{Recorder: recorder}).tell(context.Background(), extension(*caches[0].Credentials), caches[0])
		var note string
		Expect(recorder.Events).To(Receive(&note))
		Expect(len(strings.TrimPrefix(note, "Warning CredentialsRejected "))).To(BeNumerically("<=", 1024))
	})

	It("is not to write a status code that HTTP does not know", func() {
		for _, code := range []int{-1, 0, 99, 1000, 1 << 40} {
			Expect(statusCode(&credentials.Report{UpstreamStatusCode: code})).To(BeNil())
		}
		Expect(statusCode(&credentials.Report{UpstreamStatusCode: 403})).To(HaveValue(Equal(int32(403))))
	})
})
