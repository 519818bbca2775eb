// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/readiness"
	shootclient "github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/reference"
)

// replica returns a replica that works, with a report about its credential.
func replica(state credentials.State, name, pending string) Replica {
	report := &credentials.Report{State: state, SecretName: name, PendingSecretName: pending, Message: "upstream registry.example.com: status 401"}
	if state == credentials.StateRejected {
		report.UpstreamStatusCode = 401
	}
	return Replica{Name: "pod", Running: true, Credentials: report}
}

// seen is a cache with the given replicas.
func seen(replicas ...Replica) Cache {
	return Cache{Desired: int32(len(replicas)), Replicas: replicas}
}

func credentialsStatus(state registry.CredentialsState, name, pending string) registry.CredentialsStatus {
	return registry.CredentialsStatus{State: state, SecretName: name, PendingSecretName: pending, Since: metav1.NewTime(time.Unix(1, 0))}
}

// fakeShoots has caches by name. Others have one replica that works.
type fakeShoots struct {
	caches map[string]Cache
	// err is the result of a look, and takes its time.
	err   error
	takes time.Duration
	clock *clocktesting.FakeClock
	looks int
}

func (f *fakeShoots) Look(_ context.Context, _ string, names []string) (map[string]Cache, error) {
	f.looks++
	f.clock.Step(f.takes)
	if f.err != nil {
		return nil, f.err
	}
	found := map[string]Cache{}
	for _, name := range names {
		cache, known := f.caches[name]
		if !known {
			cache = seen(Replica{Name: name + "-0", Running: true})
		}
		found[name] = cache
	}
	return found, nil
}

var _ = Describe("Reconciler", func() {
	const public, private = "registry-docker-io", "registry-private-example-com"

	var (
		ctx        = context.Background()
		c          client.Client
		decoder    *codec.Codec
		shoots     *fakeShoots
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
		shoots = &fakeShoots{caches: map[string]Cache{}, clock: clock}
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
		reconciler = &Reconciler{Client: c, Reader: c, Codec: decoder, ManagedResource: "extension-registry-cache", Shoots: shoots, Recorder: recorder, Clock: clock}
	})

	Describe("the token of a workload identity", func() {
		const ecr = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
		writeToken := func(token string) {
			GinkgoHelper()
			secret := &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: ex.Namespace, Name: "workload-identity-ref-puller"},
				Data:       map[string][]byte{"token": []byte(token)},
			}
			Expect(client.IgnoreNotFound(c.Delete(ctx, secret.DeepCopy()))).To(Succeed())
			Expect(c.Create(ctx, secret)).To(Succeed())
		}
		// deploy does what package cache does with the present token.
		deploy := func() {
			GinkgoHelper()
			digest, err := reference.Reader{Client: c, Namespace: ex.Namespace, Shoot: shoot}.TokenDigest(ctx, []string{"entry"})
			Expect(err).NotTo(HaveOccurred())
			Expect(digest).NotTo(BeEmpty())
			managedResource := &resourcesv1alpha1.ManagedResource{ObjectMeta: metav1.ObjectMeta{
				Namespace: ex.Namespace, Name: "extension-registry-cache", Annotations: map[string]string{reference.TokensAnnotation: digest},
			}}
			Expect(client.IgnoreNotFound(c.Delete(ctx, managedResource.DeepCopy()))).To(Succeed())
			Expect(c.Create(ctx, managedResource)).To(Succeed())
		}
		requested := func() bool {
			GinkgoHelper()
			run()
			Expect(c.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
			return ex.Annotations["gardener.cloud/operation"] == "reconcile"
		}

		BeforeEach(func() {
			setStatus(registry.CredentialsStatus{SecretName: credentials.IdentityName("puller"), State: registry.CredentialsActive, Since: metav1.NewTime(clock.Now())})
			ex.Status.LastOperation = &gardencorev1beta1.LastOperation{LastUpdateTime: metav1.NewTime(clock.Now())}
			ex.Spec.ProviderConfig = &runtime.RawExtension{Raw: []byte(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig",` +
				`"caches":[{"upstream":"` + ecr + `","secretReferenceName":"entry"}]}`)}
			shoot.Spec.Resources = []gardencorev1beta1.NamedResourceReference{{Name: "entry", ResourceRef: autoscalingv1.CrossVersionObjectReference{
				APIVersion: "security.gardener.cloud/v1alpha1", Kind: "WorkloadIdentity", Name: "puller",
			}}}
		})

		It("is deployed after Gardener has replaced it, however long the operation before took", func() {
			writeToken("first")
			deploy()
			Expect(requested()).To(BeFalse())
			writeToken("second")
			clock.Step(time.Minute)
			Expect(requested()).To(BeFalse(), "tokens are looked at rarely")
			// An operation that has read the first one ends.
			ex.Status.LastOperation.LastUpdateTime = metav1.NewTime(clock.Now().Add(time.Hour))
			Expect(c.Status().Update(ctx, ex)).To(Succeed())
			clock.Step(tokenInterval)
			Expect(requested()).To(BeTrue())
		})

		It("is deployed although the last operation has failed because of another reference", func() {
			ex.Status.LastError = &gardencorev1beta1.LastError{Description: "the Secret of another team is invalid"}
			Expect(c.Status().Update(ctx, ex)).To(Succeed())
			writeToken("first")
			Expect(requested()).To(BeTrue())
		})

		It("is not deployed again, and may be missing", func() {
			deploy()
			Expect(requested()).To(BeFalse())
			writeToken("first")
			deploy()
			clock.Step(tokenInterval)
			Expect(requested()).To(BeFalse())
		})

		Context("with a hibernated Shoot", func() {
			BeforeEach(func() { shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)} })

			It("is deployed when that wakes up", func() {
				writeToken("first")
				Expect(requested()).To(BeFalse())
			})
		})
	})

	It("reports that all replicas have activated a credential, and requests the removal of the previous one", func() {
		shoots.caches[private] = seen(replica(credentials.StateActive, "v1", ""))
		Expect(run().RequeueAfter).To(Equal(soon))
		Expect(present().State).To(Equal(registry.CredentialsPending))
		Expect(recorder.Events).NotTo(Receive())
		Expect(ex.Annotations).To(BeEmpty())

		clock.Step(time.Minute)
		shoots.caches[private] = seen(replica(credentials.StateActive, "v2", ""))
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
		shoots.caches[private] = seen(replica(credentials.StateActive, "v1", ""))
		Expect(run().RequeueAfter).To(BeLater())
		Expect(present()).To(And(HaveField("State", registry.CredentialsActive), HaveField("PreviousSecretName", "")))
		Expect(ex.Annotations).To(BeEmpty())
	})

	It("does nothing once the Shoot has left the seed", func() {
		ex.Status.LastOperation = &gardencorev1beta1.LastOperation{Type: gardencorev1beta1.LastOperationTypeMigrate, State: gardencorev1beta1.LastOperationStateSucceeded}
		Expect(c.Status().Update(ctx, ex)).To(Succeed())
		shoots.caches[private] = seen(replica(credentials.StateActive, "v2", ""))
		Expect(run()).To(BeZero())
		Expect(present().State).To(Equal(registry.CredentialsPending))
	})

	It("reports a rejection once", func() {
		shoots.caches[private] = seen(replica(credentials.StateRejected, "v1", "v2"))
		Expect(run().RequeueAfter).To(Equal(soon))
		Expect(present()).To(And(
			HaveField("SecretName", "v1"), HaveField("PendingSecretName", "v2"), HaveField("State", registry.CredentialsRejected),
			HaveField("UpstreamStatusCode", HaveValue(BeEquivalentTo(401))), HaveField("Message", ContainSubstring("registry.example.com"))))
		Expect(recorder.Events).To(Receive(HavePrefix("Warning CredentialsRejected")))
		Expect(ex.Annotations).To(BeEmpty())

		version := ex.ResourceVersion
		clock.Step(time.Hour)
		Expect(run().RequeueAfter).To(BeLater(), "the owner no longer waits")
		present()
		Expect(ex.ResourceVersion).To(Equal(version))
		Expect(recorder.Events).NotTo(Receive())
	})

	Context("with a requested operation", func() {
		BeforeEach(func() {
			ex.Annotations = map[string]string{v1beta1constants.GardenerOperation: v1beta1constants.GardenerOperationRestore}
		})

		It("does not replace the request", func() {
			shoots.caches[private] = seen(replica(credentials.StateActive, "v2", ""))
			run()
			Expect(present().State).To(Equal(registry.CredentialsActive))
			Expect(ex.Annotations).To(HaveKeyWithValue(v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationRestore))
		})
	})

	Describe("that looks at caches", func() {
		failing := func(reason readiness.Reason, message string) Cache {
			return seen(Replica{Name: "pod", Running: true, Problem: readiness.Problem{Reason: reason, Message: message}})
		}
		conditions := func() []metav1.Condition {
			GinkgoHelper()
			Expect(c.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
			status, err := decoder.DecodeStatus(ex.Status.ProviderStatus)
			Expect(err).NotTo(HaveOccurred())
			var found []metav1.Condition
			for _, cache := range status.Caches {
				Expect(cache.Conditions).To(HaveLen(1))
				found = append(found, cache.Conditions[0])
			}
			return found
		}
		condition := func(status metav1.ConditionStatus, reason readiness.Reason, since time.Time) OmegaMatcher {
			return And(HaveField("Type", registry.ConditionReady), HaveField("Status", status), HaveField("Reason", string(reason)),
				HaveField("LastTransitionTime.Time", BeTemporally("==", since)))
		}

		BeforeEach(func() {
			setStatus(registry.CredentialsStatus{SecretName: "v1", State: registry.CredentialsActive, Since: metav1.NewTime(clock.Now())})
			shoots.caches[private] = seen(replica(credentials.StateActive, "v1", ""))
		})

		It("reports that they are ready, without an event, and writes nothing while that does not change", func() {
			Expect(run().RequeueAfter).To(BeLater())
			Expect(conditions()).To(HaveEach(condition(metav1.ConditionTrue, readiness.Ready, clock.Now())))
			version := ex.ResourceVersion
			for range 5 {
				clock.Step(time.Minute)
				run()
			}
			conditions()
			Expect(ex.ResourceVersion).To(Equal(version))
			Expect(shoots.looks).To(Equal(6))
			Expect(recorder.Events).NotTo(Receive())
		})

		// lookFor looks every minute, until the given time has passed.
		lookFor := func(period time.Duration) {
			GinkgoHelper()
			for range int(period / time.Minute) {
				run()
				clock.Step(time.Minute)
			}
			run()
		}
		version := func() string {
			GinkgoHelper()
			conditions()
			return ex.ResourceVersion
		}

		It("reports a problem and its end once each", func() {
			run()
			started := clock.Now()
			clock.Step(time.Minute)
			shoots.caches[public] = failing(readiness.UpstreamUnreachable, "Check the network.")
			lookFor((settle - 1) * time.Minute)
			Expect(conditions()[0]).To(And(condition(metav1.ConditionFalse, readiness.UpstreamUnreachable, clock.Now()), HaveField("Message", "Check the network.")))
			Expect(conditions()[1]).To(condition(metav1.ConditionTrue, readiness.Ready, started))
			Expect(recorder.Events).To(Receive(Equal("Warning CacheUpstreamUnreachable Registry cache for docker.io: Check the network.")))
			failed, before := clock.Now(), version()

			By("Nothing new")
			lookFor(time.Hour)
			Expect(version()).To(Equal(before))

			By("Another cause, which does not make the outage shorter")
			shoots.caches[public] = failing(readiness.Crashing, "See the log.")
			lookFor((settle - 1) * time.Minute)
			Expect(conditions()[0]).To(condition(metav1.ConditionFalse, readiness.Crashing, failed))
			Expect(recorder.Events).To(Receive(HavePrefix("Warning CacheCrashing")))

			By("Recovery")
			shoots.caches[public] = failing(readiness.UpstreamUnreachable, "Check the network.")
			lookFor((settle - 1) * time.Minute)
			Expect(recorder.Events).To(Receive(HavePrefix("Warning CacheUpstreamUnreachable")))
			delete(shoots.caches, public)
			lookFor((settle - 1) * time.Minute)
			Expect(conditions()[0]).To(condition(metav1.ConditionTrue, readiness.Ready, clock.Now()))
			Expect(recorder.Events).To(Receive(HavePrefix("Normal CacheReady")))
			Expect(recorder.Events).NotTo(Receive())
		})

		It("reports a new cache as ready as soon as its pod is", func() {
			shoots.caches[public] = failing(readiness.ReplicaNotReady, "It has just started.")
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionFalse, readiness.ReplicaNotReady, clock.Now()))
			clock.Step(time.Minute)
			delete(shoots.caches, public)
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionTrue, readiness.Ready, clock.Now()))
		})

		It("writes nothing for a problem that comes and goes", func() {
			run()
			for _, known := range []bool{false, true} {
				before := version()
				for range 20 {
					clock.Step(time.Minute)
					delete(shoots.caches, public)
					run()
					clock.Step(time.Minute)
					shoots.caches[public] = failing(readiness.UpstreamUnreachable, "Check the network.")
					run()
				}
				Expect(version()).To(Equal(before), "known: %t", known)
				lookFor((settle - 1) * time.Minute)
				Expect(conditions()[0]).To(And(HaveField("Status", metav1.ConditionFalse), HaveField("Reason", string(readiness.UpstreamUnreachable))))
			}
		})

		It("writes nothing for a cause that comes and goes", func() {
			shoots.caches[public] = failing(readiness.UpstreamUnreachable, "timeout")
			run()
			before := version()
			for i := range 20 {
				clock.Step(time.Minute)
				shoots.caches[public] = failing(readiness.UpstreamUnreachable, []string{"status 502", "timeout", "refused"}[i%3])
				run()
			}
			Expect(version()).To(Equal(before))
		})

		It("reports a cache that fails for ever-changing causes", func() {
			run()
			for i := range 3 {
				clock.Step(time.Minute)
				shoots.caches[public] = failing([]readiness.Reason{readiness.Crashing, readiness.ReplicaNotReady}[i%2], fmt.Sprint(i))
				run()
			}
			Expect(conditions()[0]).To(HaveField("Status", metav1.ConditionFalse))
		})

		It("reports at once what does not pass, and that its owner has solved it", func() {
			run()
			shoots.caches[public] = failing(readiness.CertificateExpiring, "Reconcile the Shoot.")
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionFalse, readiness.CertificateExpiring, clock.Now()))
			delete(shoots.caches, public)
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionTrue, readiness.Ready, clock.Now()))
		})

		It("is not confused by a clock that is set back", func() {
			run()
			shoots.caches[public] = failing(readiness.UpstreamUnreachable, "Check the network.")
			run()
			clock.SetTime(clock.Now().Add(-time.Hour))
			lookFor((settle - 1) * time.Minute)
			Expect(conditions()[0]).To(HaveField("Status", metav1.ConditionFalse))
		})

		It("keeps a problem that a replica reported while that does not respond, but not for ever", func() {
			shoots.caches[public] = failing(readiness.UpstreamUnreachable, "Check the network.")
			run()
			started, before := clock.Now(), version()
			clock.Step(time.Minute)
			shoots.caches[public] = seen(Replica{Name: "pod", Running: true, Silent: true})
			lookFor(silence - time.Minute)
			Expect(conditions()[0]).To(condition(metav1.ConditionFalse, readiness.UpstreamUnreachable, started))
			Expect(version()).To(Equal(before))
			clock.Step(time.Minute)
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionUnknown, readiness.ReportsMissing, clock.Now()))
			before = version()
			lookFor(time.Hour)
			reconciler.memory = memory{} // the controller restarts
			lookFor(time.Hour)
			Expect(version()).To(Equal(before))

			By("Recovery")
			delete(shoots.caches, public)
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionTrue, readiness.Ready, clock.Now()))

			By("Unlike that of its pod")
			shoots.caches[public] = failing(readiness.Crashing, "See its log.")
			lookFor((settle - 1) * time.Minute)
			shoots.caches[public] = seen(Replica{Name: "pod", Running: true, Silent: true})
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionTrue, readiness.Ready, clock.Now()))
		})

		It("ends a problem when one replica reports its end", func() {
			shoots.caches[public] = failing(readiness.UpstreamUnreachable, "Check the network.")
			run()
			shoots.caches[public] = seen(Replica{Name: "pod-0", Running: true, Silent: true}, Replica{Name: "pod-1", Running: true})
			lookFor((settle - 1) * time.Minute)
			Expect(conditions()[0]).To(condition(metav1.ConditionTrue, readiness.Ready, clock.Now()))
		})

		It("follows the others while a cache cannot be read", func() {
			run()
			started := clock.Now()
			shoots.caches[public] = Cache{Err: fmt.Errorf("read pod: %w", shootclient.ErrTooLong)}
			shoots.caches[private] = seen(replica(credentials.StateRejected, "v1", ""))
			lookFor(silence - time.Minute)
			Expect(conditions()[0]).To(condition(metav1.ConditionTrue, readiness.Ready, started))
			Expect(conditions()[1]).To(HaveField("Reason", string(readiness.CredentialRejected)))
			clock.Step(time.Minute)
			run()
			Expect(conditions()[0]).To(And(condition(metav1.ConditionUnknown, readiness.NotObserved, clock.Now()), HaveField("Message", ContainSubstring("too large"))))

			By("Recovery")
			delete(shoots.caches, public)
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionTrue, readiness.Ready, clock.Now()))
		})

		It("reports a rejected credential by one event", func() {
			run()
			shoots.caches[private] = seen(replica(credentials.StateRejected, "v1", ""))
			run()
			Expect(conditions()[1]).To(And(condition(metav1.ConditionFalse, readiness.CredentialRejected, clock.Now()), HaveField("Message", ContainSubstring(`rejects the Secret "v1"`))))
			Expect(recorder.Events).To(Receive(HavePrefix("Warning CredentialsRejected")))
			shoots.caches[private] = seen(replica(credentials.StateActive, "v1", ""))
			run()
			Expect(conditions()[1]).To(condition(metav1.ConditionTrue, readiness.Ready, clock.Now()))
			Expect(recorder.Events).To(Receive(HavePrefix("Normal CredentialsActive")))
			Expect(recorder.Events).NotTo(Receive())
		})

		It("finds caches without credentials that have no StatefulSet", func() {
			shoots.caches[public] = Cache{}
			run()
			Expect(conditions()[0]).To(condition(metav1.ConditionFalse, readiness.ReplicaMissing, clock.Now()))
		})

		It("looks less often at a Shoot that responds slowly, also after an error or a conflict", func() {
			shoots.takes = 9 * time.Second
			Expect(run().RequeueAfter).To(Equal(3 * time.Minute))
			for _, err := range []error{errors.New("denied"), apierrors.NewConflict(schema.GroupResource{}, "", nil)} {
				reconciler.Client = interceptor.NewClient(c.(client.WithWatch), interceptor.Funcs{
					SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
						return err
					},
				})
				shoots.caches[private] = seen(replica(credentials.StateRejected, "v1", ""))
				Expect(run().RequeueAfter).To(Equal(3*time.Minute), err.Error())
			}
		})

		It("does not overwrite a status that has changed since it was read", func() {
			stale := ex.DeepCopy()
			Expect(c.Get(ctx, client.ObjectKeyFromObject(ex), stale)).To(Succeed())
			changed := stale.DeepCopy()
			changed.Status.ObservedGeneration++
			Expect(c.Status().Update(ctx, changed)).To(Succeed())
			reconciler.Reader = interceptor.NewClient(c.(client.WithWatch), interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
					if ex, ok := object.(*extensionsv1alpha1.Extension); ok {
						stale.DeepCopyInto(ex)
						return nil
					}
					return c.Get(ctx, key, object, options...)
				},
			})
			Expect(run().RequeueAfter).To(Equal(soon))
			Expect(c.Get(ctx, client.ObjectKeyFromObject(ex), ex)).To(Succeed())
			Expect(ex.ResourceVersion).To(Equal(changed.ResourceVersion))
		})

		Context("whose API server does not respond", func() {
			It("keeps the conditions for a while, and then reports that they are unknown, without an alarm", func() {
				run()
				started := clock.Now()
				shoots.err = &url.Error{Op: "Get", URL: "https://api.example.com", Err: errors.New("connection refused")}
				for range 10 {
					clock.Step(time.Minute)
					Expect(run().RequeueAfter).To(BeLater())
					Expect(conditions()).To(HaveEach(condition(metav1.ConditionTrue, readiness.Ready, started)))
				}
				clock.Step(time.Minute)
				run()
				Expect(conditions()).To(HaveEach(condition(metav1.ConditionUnknown, readiness.ShootUnreachable, clock.Now())))
				Expect(present().State).To(Equal(registry.CredentialsActive))
				version := ex.ResourceVersion
				clock.Step(time.Hour)
				run()
				conditions()
				Expect(ex.ResourceVersion).To(Equal(version))
				Expect(recorder.Events).To(Receive(HavePrefix("Normal CacheShootUnreachable")))
				Expect(recorder.Events).To(Receive(HavePrefix("Normal CacheShootUnreachable")))

				By("Recovery")
				shoots.err = nil
				run()
				Expect(conditions()).To(HaveEach(condition(metav1.ConditionTrue, readiness.Ready, clock.Now())))
			})

			It("does not blame the API server for another error", func() {
				run()
				shoots.err = errors.New("read kubeconfig of the Shoot: secrets \"gardener\" not found")
				lookFor(silence)
				Expect(conditions()).To(HaveEach(And(condition(metav1.ConditionUnknown, readiness.NotObserved, clock.Now()), HaveField("Message", Not(ContainSubstring("API server"))))))
			})

			It("restarts the period after a response", func() {
				run()
				for range 3 {
					shoots.err = errors.New("timeout")
					run()
					clock.Step(silence - time.Second)
					run()
					shoots.err = nil
					run()
				}
				Expect(conditions()).To(HaveEach(HaveField("Status", metav1.ConditionTrue)))
			})

			It("bounds its response in the log", func() {
				var logged bytes.Buffer
				shoots.err = errors.New(strings.Repeat("denied\n", 1<<17))
				_, err := reconciler.Reconcile(logf.IntoContext(ctx, zap.New(zap.WriteTo(&logged))), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(ex)})
				Expect(err).NotTo(HaveOccurred())
				Expect(logged.String()).To(ContainSubstring("denied denied"))
				Expect(logged.Len()).To(BeNumerically("<", 4<<10))
			})
		})

		Context("of a hibernated Shoot", func() {
			BeforeEach(func() { shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)} })

			It("reports once that they are unknown, without a look", func() {
				Expect(run().RequeueAfter).To(BeLater())
				Expect(conditions()).To(HaveEach(condition(metav1.ConditionUnknown, readiness.Hibernated, clock.Now())))
				Expect(present().State).To(Equal(registry.CredentialsActive))
				version := ex.ResourceVersion
				clock.Step(time.Hour)
				run()
				conditions()
				Expect(ex.ResourceVersion).To(Equal(version))
				Expect(shoots.looks).To(BeZero())
			})
		})

		Context("of a Shoot in deletion", func() {
			BeforeEach(func() { shoot.DeletionTimestamp = new(metav1.NewTime(clock.Now())) })

			It("does nothing", func() {
				Expect(run()).To(BeZero())
				Expect(shoots.looks).To(BeZero())
			})
		})

		Context("of a hostile owner", func() {
			It("writes at most once for each look, whatever replicas report", func() {
				writes := 0
				reconciler.Client = interceptor.NewClient(c.(client.WithWatch), interceptor.Funcs{
					SubResourcePatch: func(ctx context.Context, c client.Client, subresource string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
						writes++
						return c.SubResource(subresource).Patch(ctx, object, patch, options...)
					},
				})
				for i := range 10 {
					shoots.caches[public] = failing(readiness.CertificateExpiring, strings.Repeat("x", i))
					if i%2 == 0 {
						delete(shoots.caches, public)
					}
					shoots.caches[private] = failing(readiness.CertificateExpiring, strings.Repeat("y", i))
					Expect(run().RequeueAfter).To(BeLater())
				}
				Expect(writes).To(Equal(10))
			})

			It("gets a bounded number of events and log entries", func() {
				recorder = events.NewFakeRecorder(1000)
				reconciler.Recorder = recorder
				caches := make([]registry.RegistryCacheStatus, 150)
				for i := range caches {
					caches[i].Upstream = fmt.Sprintf("%d.example.com", i)
				}
				after := slices.Clone(caches)
				for i := range after {
					after[i].Conditions = []metav1.Condition{readiness.Of([]readiness.Problem{{Reason: readiness.Crashing, Message: strings.Repeat("x", 1<<20)}}, readiness.Problem{})}
				}
				var logged bytes.Buffer
				reconciler.record(logf.IntoContext(ctx, zap.New(zap.WriteTo(&logged))), ex, caches, after)
				Expect(recorder.Events).To(HaveLen(maxEvents))
				Expect(<-recorder.Events).To(HaveLen(len("Warning CacheCrashing ") + problem.MaxNote))
				Expect(logged.String()).To(ContainSubstring(`"skipped":140`))
				Expect(logged.Len()).To(BeNumerically("<", 2*maxEvents*problem.MaxNote))
			})
		})
	})

	Context("without a status", func() {
		BeforeEach(func() { ex.Status.ProviderStatus = nil })

		It("does nothing", func() { Expect(run()).To(BeZero()) })
	})
})

// BeLater matches the interval of looks that no owner waits for.
func BeLater() OmegaMatcher {
	return BeNumerically("~", later, later/10)
}

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
		Entry("if it changes the state", credentialsStatus(registry.CredentialsActive, "v1", ""), credentialsStatus(registry.CredentialsRejected, "v1", ""), false),
		Entry("if it changes the message", credentialsStatus(registry.CredentialsPending, "v1", "v2"),
			registry.CredentialsStatus{State: registry.CredentialsPending, SecretName: "v1", PendingSecretName: "v2", Message: "other"}, false),
		Entry("unlike another wanted credential", credentialsStatus(registry.CredentialsActive, "v1", ""), credentialsStatus(registry.CredentialsPending, "v1", "v2"), true),
	)
})
