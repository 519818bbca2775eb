// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"strings"
	"time"

	"github.com/gardener/gardener/extensions/pkg/controller/healthcheck"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/problem"
)

var _ = Describe("Check", func() {
	const namespace = "shoot--dev--example"

	var (
		managedResource *resourcesv1alpha1.ManagedResource
		start           = time.Unix(1, 0) // of all conditions and states
		clock           *clocktesting.FakePassiveClock
	)

	BeforeEach(func() {
		clock = clocktesting.NewFakePassiveClock(start.Add(passingThreshold))
		managedResource = &resourcesv1alpha1.ManagedResource{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "example"},
			Status: resourcesv1alpha1.ManagedResourceStatus{Conditions: []gardencorev1beta1.Condition{
				{Type: resourcesv1alpha1.ResourcesApplied, Status: gardencorev1beta1.ConditionTrue},
				{Type: resourcesv1alpha1.ResourcesHealthy, Status: gardencorev1beta1.ConditionTrue},
			}},
		}
	})

	check := func(ctx SpecContext, caches ...registry.RegistryCacheStatus) *healthcheck.SingleCheckResult {
		GinkgoHelper()
		codec, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		status, err := codec.EncodeStatus(&registry.RegistryStatus{Caches: caches})
		Expect(err).NotTo(HaveOccurred())
		objects := []client.Object{&extensionsv1alpha1.Extension{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-cache"},
			Status:     extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{ProviderStatus: status}},
		}}
		if managedResource != nil {
			objects = append(objects, managedResource)
		}
		c := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(objects...).Build()
		check := &Check{Client: c, Codec: codec, ManagedResources: []string{"example"}, Clock: clock}
		result, err := check.Check(ctx, types.NamespacedName{Namespace: namespace, Name: "registry-cache"})
		Expect(err).NotTo(HaveOccurred())
		return result
	}
	withCredentials := func(upstream string, credentials registry.CredentialsStatus) registry.RegistryCacheStatus {
		return registry.RegistryCacheStatus{Upstream: upstream, Credentials: &credentials}
	}
	with := func(upstream string, status metav1.ConditionStatus, reason readiness.Reason, message string) registry.RegistryCacheStatus {
		return registry.RegistryCacheStatus{Upstream: upstream, Conditions: []metav1.Condition{{
			Type: registry.ConditionReady, Status: status, Reason: string(reason), Message: message, LastTransitionTime: metav1.NewTime(start),
		}}}
	}
	rejected := credentialsStatus(registry.CredentialsRejected, "robot-v1", "robot-v2")
	rejected.UpstreamStatusCode, rejected.Message = new(int32(401)), "upstream b.example.com: status 401"

	It("succeeds for caches that are ready, not observed yet or unknown", func(ctx SpecContext) {
		Expect(check(ctx,
			registry.RegistryCacheStatus{Upstream: "new.example.com"},
			withCredentials("a.example.com", credentialsStatus(registry.CredentialsActive, "v1", "")),
			with("b.example.com", metav1.ConditionTrue, readiness.Ready, "No problem is known."),
			with("c.example.com", metav1.ConditionUnknown, readiness.ShootUnreachable, "The API server does not respond."),
		)).To(Equal(&healthcheck.SingleCheckResult{Status: gardencorev1beta1.ConditionTrue}))
	})

	DescribeTable("reports a problem", func(ctx SpecContext, status metav1.ConditionStatus, reason readiness.Reason, expected gardencorev1beta1.ConditionStatus, code gardencorev1beta1.ErrorCode) {
		result := check(ctx, with("a.example.com", metav1.ConditionTrue, readiness.Ready, "No problem is known."), with("b.example.com", status, reason, "Do something."))
		Expect(result.Status).To(Equal(expected))
		if expected == gardencorev1beta1.ConditionTrue {
			Expect(result.Detail).To(BeEmpty())
		} else {
			Expect(result.Detail).To(Equal("Registry cache for b.example.com: Do something."))
		}
		if expected == gardencorev1beta1.ConditionProgressing {
			Expect(result.ProgressingThreshold).To(HaveValue(Equal(unlimited)))
		} else {
			Expect(result.ProgressingThreshold).To(BeNil())
		}
		if code == "" {
			Expect(result.Codes).To(BeEmpty())
		} else {
			Expect(result.Codes).To(ConsistOf(code))
		}
	},
		Entry("that may pass", metav1.ConditionFalse, readiness.UpstreamUnreachable, gardencorev1beta1.ConditionProgressing, gardencorev1beta1.ErrorCode("")),
		Entry("of a pod that starts", metav1.ConditionFalse, readiness.ReplicaNotReady, gardencorev1beta1.ConditionProgressing, gardencorev1beta1.ErrorCode("")),
		Entry("of one of two replicas", metav1.ConditionTrue, readiness.Degraded, gardencorev1beta1.ConditionProgressing, gardencorev1beta1.ErrorCode("")),
		Entry("that does not keep the cache from working", metav1.ConditionTrue, readiness.ContentTooLarge, gardencorev1beta1.ConditionTrue, gardencorev1beta1.ErrorCode("")),
		Entry("of the configuration", metav1.ConditionFalse, readiness.NoVolume, gardencorev1beta1.ConditionProgressing, gardencorev1beta1.ErrorConfigurationProblem),
		Entry("that does not pass", metav1.ConditionFalse, readiness.CertificateExpiring, gardencorev1beta1.ConditionFalse, gardencorev1beta1.ErrorCode("")),
	)

	Describe("of problems that may pass", func() {
		problem := func(upstream string, since time.Time) registry.RegistryCacheStatus {
			cache := with(upstream, metav1.ConditionFalse, readiness.ReplicaMissing, "Wait.")
			cache.Conditions[0].LastTransitionTime = metav1.NewTime(since)
			return cache
		}

		It("fails once one of them has lasted for long", func(ctx SpecContext) {
			clock.SetTime(start.Add(passingThreshold + time.Second))
			result := check(ctx, problem("a.example.com", clock.Now()), problem("b.example.com", start))
			Expect(result.Status).To(Equal(gardencorev1beta1.ConditionFalse))
			Expect(check(ctx, withCredentials("a.example.com", credentialsStatus(registry.CredentialsPending, "v1", "v2"))).Status).To(Equal(gardencorev1beta1.ConditionFalse))
		})

		It("never fails for the time that several of them took together", func(ctx SpecContext) {
			for minute := range 60 {
				clock.SetTime(start.Add(time.Duration(minute) * time.Minute))
				result := check(ctx, problem(fmt.Sprintf("%d.example.com", minute), clock.Now().Add(-time.Minute)))
				Expect(result.Status).To(Equal(gardencorev1beta1.ConditionProgressing))
				Expect(result.ProgressingThreshold).To(HaveValue(BeNumerically(">", 100*365*24*time.Hour)), "of Gardener's library")
			}
		})

		It("never fails for a cache that lacks one of two replicas", func(ctx SpecContext) {
			clock.SetTime(start.Add(24 * time.Hour))
			managedResource.Status.Conditions[1].Status = gardencorev1beta1.ConditionFalse
			Expect(check(ctx, with("a.example.com", metav1.ConditionTrue, readiness.Degraded, "1 of 2 replicas work.")).Status).To(Equal(gardencorev1beta1.ConditionProgressing))
		})
	})

	It("progresses while credentials are pending", func(ctx SpecContext) {
		result := check(ctx, withCredentials("a.example.com", credentialsStatus(registry.CredentialsPending, "robot-v1", "robot-v2")))
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionProgressing))
		Expect(result.ProgressingThreshold).To(HaveValue(Equal(unlimited)))
		Expect(result.Detail).To(And(ContainSubstring("a.example.com"), ContainSubstring(`"robot-v1"`), ContainSubstring(`"robot-v2"`)))
	})

	It("reports rejected credentials with a code, the Secret and the active Secret, once", func(ctx SpecContext) {
		cache := withCredentials("b.example.com", rejected)
		cache.Conditions = with("", metav1.ConditionFalse, readiness.CredentialRejected, describe(credentialsOf(cache)[0])).Conditions
		result := check(ctx, withCredentials("a.example.com", credentialsStatus(registry.CredentialsPending, "v1", "v2")), cache, withCredentials("c.example.com", rejected))
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionFalse))
		Expect(result.ProgressingThreshold).To(BeNil())
		Expect(result.Codes).To(Equal([]gardencorev1beta1.ErrorCode{gardencorev1beta1.ErrorInfraUnauthorized}))
		Expect(result.Detail).To(And(
			ContainSubstring(`The upstream b.example.com rejects the Secret "robot-v2" of its registry cache with status 401`), ContainSubstring(`uses the Secret "robot-v1", which must stay valid`)))
		Expect(strings.Count(result.Detail, "b.example.com rejects")).To(Equal(1))
	})

	It("reports the credential of some repositories with their names", func(ctx SpecContext) {
		cache := withCredentials("b.example.com", credentialsStatus(registry.CredentialsActive, "v1", ""))
		cache.RepositoryCredentials = []registry.RepositoryCredentialStatus{
			{Repositories: []string{"team-a/app", "team-b"}, Credentials: rejected},
			{Repositories: []string{"team-c"}, Credentials: credentialsStatus(registry.CredentialsActive, "v1", "")},
		}
		result := check(ctx, cache)
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionFalse))
		Expect(result.Codes).To(Equal([]gardencorev1beta1.ErrorCode{gardencorev1beta1.ErrorInfraUnauthorized}))
		Expect(result.Detail).To(And(
			ContainSubstring(`The upstream b.example.com/team-a/app (and 1 more) rejects the Secret "robot-v2"`), Not(ContainSubstring("team-c"))))
	})

	It("reports missing credentials as a problem of the configuration", func(ctx SpecContext) {
		result := check(ctx, withCredentials("a.example.com", credentialsStatus(registry.CredentialsMissing, "v1", "")))
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionFalse))
		Expect(result.Codes).To(Equal([]gardencorev1beta1.ErrorCode{gardencorev1beta1.ErrorConfigurationProblem}))
	})

	It("describes a pod that does not run once", func(ctx SpecContext) {
		managedResource.Status.Conditions[1] = gardencorev1beta1.Condition{Type: resourcesv1alpha1.ResourcesHealthy, Status: gardencorev1beta1.ConditionFalse, Message: "StatefulSet is unhealthy"}
		By("before the next look")
		result := check(ctx)
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionProgressing))
		Expect(result.Detail).To(ContainSubstring("StatefulSet is unhealthy"))
		By("after it")
		result = check(ctx, with("a.example.com", metav1.ConditionFalse, readiness.Crashing, "See its log."))
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionProgressing))
		Expect(result.Detail).To(Equal("Registry cache for a.example.com: See its log."))
	})

	It("fails if objects are not deployed, with a bounded description", func(ctx SpecContext) {
		managedResource.Status.Conditions[0] = gardencorev1beta1.Condition{
			Type: resourcesv1alpha1.ResourcesApplied, Status: gardencorev1beta1.ConditionFalse, Message: strings.Repeat("denied by an admission webhook ", 10000),
		}
		result := check(ctx)
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionFalse))
		Expect(result.Detail).To(ContainSubstring("denied by an admission webhook"))
		Expect(len(result.Detail)).To(BeNumerically("<=", problem.MaxLength))

		By("in addition to problems of caches")
		result = check(ctx, with("a.example.com", metav1.ConditionFalse, readiness.Crashing, "See its log."))
		Expect(result.Status).To(Equal(gardencorev1beta1.ConditionFalse))
		Expect(result.Detail).To(And(ContainSubstring("denied by an admission webhook"), HaveSuffix("See its log.")))
		Expect(result.Codes).To(BeEmpty())

		By("with a code for an invalid object")
		managedResource.Status.Conditions[0].Message = "Could not apply all new resources: error during apply of object a/b: C is invalid: d"
		Expect(check(ctx).Codes).To(ConsistOf(gardencorev1beta1.ErrorConfigurationProblem))
	})

	// The library keeps a condition False until it is True, so a first False would hide that caches progress.
	It("progresses while objects are being deployed", func(ctx SpecContext) {
		progresses := And(HaveField("Status", gardencorev1beta1.ConditionProgressing), HaveField("ProgressingThreshold", HaveValue(Equal(unlimited))))
		managedResource.Generation = 2
		Expect(check(ctx)).To(progresses)
		managedResource.Generation, managedResource.Status.Conditions = 0, nil
		Expect(check(ctx)).To(progresses)
		managedResource = nil
		Expect(check(ctx)).To(progresses)
	})

	It("describes a bounded number of problems and counts the others", func(ctx SpecContext) {
		longest := strings.Repeat("x", 253)
		caches := make([]registry.RegistryCacheStatus, 150)
		for i := range caches {
			credentials := credentialsStatus(registry.CredentialsRejected, longest, longest)
			credentials.Message = strings.Repeat("m", maxMessage)
			caches[i] = with(fmt.Sprintf("%d.%s", i, longest), metav1.ConditionFalse, readiness.Crashing, strings.Repeat("y", readiness.MaxMessage))
			caches[i].Credentials = &credentials
		}
		result := check(ctx, caches...)
		Expect(len(result.Detail)).To(BeNumerically("<", 16<<10))
		Expect(result.Detail).To(HaveSuffix("And 290 more; see the provider status of the Extension."))
	})
})
