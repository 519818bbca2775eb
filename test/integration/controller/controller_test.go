// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/utils/kubernetes/health"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	vpaautoscalingv1 "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/cache"
	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("Extension", func() {
	var (
		s *shoot

		hub     = v1alpha3.RegistryCache{Upstream: "docker.io"}
		private = v1alpha3.RegistryCache{
			Upstream:            "private.example.com:5443",
			SecretReferenceName: new("upstream-credentials"),
			HTTP:                &v1alpha3.HTTP{TLS: new(false)},
		}
		credential = map[string]string{"username": "robot$puller", "password": "example: \"#%*\n"}
	)

	const (
		hubName     = "registry-docker-io"
		privateName = "registry-private-example-com-5443"
	)

	BeforeEach(func(ctx SpecContext) {
		s = newShoot(ctx)
	})

	It("deploys caches and reports their endpoints", func(ctx SpecContext) {
		s.refer(ctx, "upstream-credentials", "v1", credential)
		extension := s.reconcile(ctx, hub, private)

		By("Provider status")
		status := statusOf(extension)
		Expect(status.Caches).To(HaveLen(2))
		Expect(status.Caches[0].Upstream).To(Equal("docker.io"))
		Expect(status.Caches[0].RemoteURL).To(Equal("https://registry-1.docker.io"))
		Expect(status.Caches[0].Endpoint).To(Equal("https://" + clusterIP(ctx, hubName) + ":5000"))
		Expect(status.Caches[1].Endpoint).To(Equal("http://" + clusterIP(ctx, privateName) + ":5000"))

		By("Certificate")
		bundle := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: *status.CASecretName}}
		Expect(get(bundle)(ctx)).To(Succeed())
		expectCertificate(ctx, hubName+"-tls", status.Caches[0].Endpoint, bundle.Data["bundle.crt"])

		By("Configuration")
		config := inShoot(&corev1.Secret{}, privateName+"-config")
		Eventually(ctx, get(config)).Should(Succeed())
		Expect(string(config.Data["config.yml"])).To(And(ContainSubstring("remoteurl: https://private.example.com:5443"), Not(ContainSubstring("robot"))))
		secret := inShoot(&corev1.Secret{}, privateName+"-credentials")
		Eventually(ctx, get(secret)).Should(Succeed())
		Expect(secret.Data).To(Equal(map[string][]byte{
			"name": []byte("v1"), "username": []byte(credential["username"]), "password": []byte(credential["password"]),
		}))

		By("Objects")
		for _, name := range []string{hubName, privateName} {
			Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, name))).Should(Succeed())
			Eventually(ctx, get(inShoot(&networkingv1.NetworkPolicy{}, name))).Should(Succeed())
		}
		Expect(get(inShoot(&policyv1.PodDisruptionBudget{}, hubName))(ctx)).To(beNotFound())
		Expect(get(inShoot(&vpaautoscalingv1.VerticalPodAutoscaler{}, hubName))(ctx)).To(beNotFound())

		By("Health, which these pods do not have")
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(extension.Status.Conditions).To(ContainElement(And(
				HaveField("Type", gardencorev1beta1.ShootSystemComponentsHealthy),
				HaveField("Message", ContainSubstring(hubName)),
			)))
		}).Should(Succeed())
	})

	It("deploys nothing that no cache needs", func(ctx SpecContext) {
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
			shoot.Spec.Kubernetes.VerticalPodAutoscaler = &gardencorev1beta1.VerticalPodAutoscaler{Enabled: true}
		})
		available := hub
		available.HighAvailability = &v1alpha3.HighAvailability{Enabled: true}
		caName := *statusOf(s.reconcile(ctx, available)).CASecretName
		Eventually(ctx, get(inShoot(&policyv1.PodDisruptionBudget{}, hubName))).Should(Succeed())
		Eventually(ctx, get(inShoot(&vpaautoscalingv1.VerticalPodAutoscaler{}, hubName))).Should(Succeed())

		plain := hub
		plain.HTTP = &v1alpha3.HTTP{TLS: new(false)}
		Expect(statusOf(s.reconcile(ctx, plain)).CASecretName).To(BeNil())
		Eventually(ctx, get(inShoot(&policyv1.PodDisruptionBudget{}, hubName))).Should(beNotFound())
		Eventually(ctx, get(inShoot(&corev1.Secret{}, hubName+"-tls"))).Should(beNotFound())
		Expect(get(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: caName}})(ctx)).To(beNotFound())
	})

	It("keeps certificates across reconciliations", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		before := inShoot(&corev1.Secret{}, hubName+"-tls")
		Eventually(ctx, get(before)).Should(Succeed())
		s.reconcile(ctx, hub)
		after := inShoot(&corev1.Secret{}, hubName+"-tls")
		Consistently(ctx, func(g Gomega) {
			g.Expect(get(after)(ctx)).To(Succeed())
			g.Expect(after.Data).To(Equal(before.Data))
		}).Should(Succeed())
	})

	Describe("with unusable credentials", func() {
		expectProblem := func(lastError *gardencorev1beta1.LastError, texts ...string) {
			GinkgoHelper()
			Expect(lastError.Codes).To(ConsistOf(gardencorev1beta1.ErrorConfigurationProblem))
			for _, text := range texts {
				Expect(lastError.Description).To(ContainSubstring(text))
			}
		}

		It("deploys the other caches, reports the error, and continues when it is fixed", func(ctx SpecContext) {
			s.refer(ctx, "upstream-credentials", "v1", map[string]string{"username": "robot"})
			expectProblem(s.reconcileWithError(ctx, hub, private), "cache private.example.com:5443", `Secret "v1"`, `"upstream-credentials"`, "is invalid")
			extension := s.extension()
			Expect(get(extension)(ctx)).To(Succeed())
			Expect(statusOf(extension).Caches).To(ConsistOf(HaveField("Upstream", "docker.io")))
			Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, hubName))).Should(Succeed())
			Expect(get(inShoot(&appsv1.StatefulSet{}, privateName))(ctx)).To(beNotFound())
			Expect(get(inShoot(&corev1.Service{}, privateName))(ctx)).To(beNotFound())

			s.createSecret(ctx, "v2", credential, true)
			s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources[0].ResourceRef.Name = "v2" })
			s.reconcile(ctx, hub, private)
		})

		It("waits for a Secret that is about to be copied to the seed", func(ctx SpecContext) {
			s.refer(ctx, "upstream-credentials", "v1", nil)
			go func() {
				defer GinkgoRecover()
				extension := s.extension()
				Eventually(ctx, func(g Gomega) {
					g.Expect(get(extension)(ctx)).To(Succeed())
					g.Expect(extension.Status.LastOperation).To(HaveValue(HaveField("State", gardencorev1beta1.LastOperationStateProcessing)))
				}).Should(Succeed())
				s.createSecret(ctx, "v1", credential, true)
			}()
			s.reconcile(ctx, private)
		})

		It("reports all errors at once", func(ctx SpecContext) {
			s.refer(ctx, "upstream-credentials", "mutable", credential, true)
			other, third := private, private
			other.Upstream, other.SecretReferenceName = "other.example.com", new("no-such-entry")
			third.Upstream, third.SecretReferenceName = "third.example.com", new("a-config-map")
			s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
				entry := shoot.Spec.Resources[0]
				entry.Name, entry.ResourceRef.Kind = "a-config-map", "ConfigMap"
				shoot.Spec.Resources = append(shoot.Spec.Resources, entry)
			})
			lastError := s.reconcileWithError(ctx, private, other, third)
			expectProblem(lastError,
				"cache private.example.com:5443", "garden-dev/mutable", "must be immutable",
				"cache other.example.com", `"no-such-entry"`,
				"cache third.example.com", "ConfigMap",
			)
			Expect(lastError.Description).NotTo(ContainSubstring("example: "))
		})

		It("keeps the deployed credential of a running cache and follows everything else", func(ctx SpecContext) {
			plain, secure := hub, private
			plain.HTTP, secure.HTTP = &v1alpha3.HTTP{TLS: new(false)}, nil
			s.refer(ctx, "upstream-credentials", "v1", credential)
			before := statusOf(s.reconcile(ctx, plain, secure))
			Expect(before.CASecretName).NotTo(BeNil())
			config, statefulSet := inShoot(&corev1.Secret{}, privateName+"-credentials"), inShoot(&appsv1.StatefulSet{}, privateName)
			Eventually(ctx, get(config)).Should(Succeed())
			Eventually(ctx, get(statefulSet)).Should(Succeed())
			data := config.Data

			s.createSecret(ctx, "v2", credential, false)
			s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources[0].ResourceRef.Name = "v2" })
			plain.HighAvailability = &v1alpha3.HighAvailability{Enabled: true}
			secure.HighAvailability = plain.HighAvailability
			expectProblem(s.reconcileWithError(ctx, plain, secure), `Secret "v2"`)
			Eventually(ctx, func(g Gomega) {
				for _, name := range []string{hubName, privateName} {
					cache := inShoot(&appsv1.StatefulSet{}, name)
					g.Expect(get(cache)(ctx)).To(Succeed())
					g.Expect(cache.Spec.Replicas).To(HaveValue(Equal(int32(2))), name)
				}
			}).Should(Succeed())
			Expect(get(statefulSet)(ctx)).To(Succeed())
			generation := statefulSet.Generation
			Consistently(ctx, func(g Gomega) {
				g.Expect(get(config)(ctx)).To(Succeed())
				g.Expect(config.Data).To(Equal(data))
				g.Expect(get(inShoot(&corev1.Secret{}, privateName+"-tls"))(ctx)).To(Succeed())
			}).Should(Succeed())
			extension := s.extension()
			Expect(get(extension)(ctx)).To(Succeed())
			after := statusOf(extension)
			Expect(after.CASecretName).To(Equal(before.CASecretName))
			Expect(after.Caches).To(HaveLen(2))
			for i, cache := range before.Caches {
				Expect(after.Caches[i].Upstream).To(Equal(cache.Upstream))
				Expect(after.Caches[i].Endpoint).To(Equal(cache.Endpoint))
			}
			Expect(after.Caches[1].Credentials).To(HaveValue(And(HaveField("SecretName", "v1"), HaveField("PendingSecretName", ""))))

			By("Fix")
			s.createSecret(ctx, "v3", map[string]string{"username": "robot$puller", "password": "new"}, true)
			s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources[0].ResourceRef.Name = "v3" })
			s.reconcile(ctx, plain, secure)
			Eventually(ctx, func(g Gomega) {
				g.Expect(get(config)(ctx)).To(Succeed())
				g.Expect(config.Data).NotTo(Equal(data))
				g.Expect(get(statefulSet)(ctx)).To(Succeed())
				g.Expect(statefulSet.Generation).To(Equal(generation), "a rotation restarts no pod")
			}).Should(Succeed())
		})
	})

	It("removes a cache with its volume, and nothing else", func(ctx SpecContext) {
		plain := private
		plain.SecretReferenceName = nil
		s.reconcile(ctx, hub, plain)
		createClaim(ctx, hubName, hub.Upstream)
		createClaim(ctx, privateName, private.Upstream)

		address := clusterIP(ctx, privateName)
		status := statusOf(s.reconcile(ctx, hub))
		Expect(status.Caches).To(HaveLen(1))
		Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, privateName))).Should(beNotFound())
		Eventually(ctx, get(inShoot(&corev1.Secret{}, privateName+"-config"))).Should(beNotFound())
		Eventually(ctx, get(inShoot(&corev1.PersistentVolumeClaim{}, component.ClaimName(privateName, 0)))).Should(beNotFound())
		Consistently(ctx, func(g Gomega) {
			claim := inShoot(&corev1.PersistentVolumeClaim{}, component.ClaimName(hubName, 0))
			g.Expect(get(claim)(ctx)).To(Succeed())
			g.Expect(claim.DeletionTimestamp).To(BeNil())
		}).Should(Succeed())

		By("Its address stays reserved until the nodes no longer use it")
		s.reconcile(ctx, hub)
		Expect(clusterIP(ctx, privateName)).To(Equal(address))
		s.succeed(ctx)
		Eventually(ctx, get(inShoot(&corev1.Service{}, privateName))).WithTimeout(time.Minute).Should(beNotFound())
		Expect(get(inShoot(&corev1.Service{}, hubName))(ctx)).To(Succeed())
	})

	It("does not reuse the volume and the address of another upstream's cache with the same names", func(ctx SpecContext) {
		const name = "registry-a-example-com"
		first, second := v1alpha3.RegistryCache{Upstream: "a.example.com"}, v1alpha3.RegistryCache{Upstream: "a-example.com"}
		s.reconcile(ctx, first)
		Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, name))).Should(Succeed())
		claim := createClaim(ctx, name, first.Upstream)

		Expect(statusOf(s.reconcile(ctx, hub, second)).Caches).To(ConsistOf(HaveField("Upstream", "docker.io")))
		Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, name))).Should(beNotFound())
		Eventually(ctx, get(claim)).Should(beNotFound())

		s.succeed(ctx)
		extension := s.extension()
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(statusOf(extension).Caches).To(ConsistOf(HaveField("Upstream", "docker.io"), HaveField("Upstream", "a-example.com")))
		}).WithTimeout(time.Minute).Should(Succeed())
		statefulSet := inShoot(&appsv1.StatefulSet{}, name)
		Eventually(ctx, get(statefulSet)).Should(Succeed())
		Expect(statefulSet.Labels).To(HaveKeyWithValue("upstream-host", "a-example.com"))
	})

	It("removes a replica's volume when high availability is disabled, but not when a cache is scaled down", func(ctx SpecContext) {
		available := hub
		available.HighAvailability = &v1alpha3.HighAvailability{Enabled: true}
		s.reconcile(ctx, available)
		statefulSet := inShoot(&appsv1.StatefulSet{}, hubName)
		Eventually(ctx, get(statefulSet)).Should(Succeed())
		Expect(statefulSet.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled).To(Equal(appsv1.RetainPersistentVolumeClaimRetentionPolicyType))
		first, second := createClaim(ctx, hubName, hub.Upstream), newClaim(component.ClaimName(hubName, 1))
		second.Labels = first.Labels
		Expect(testClient.Create(ctx, second)).To(Succeed())
		s.reconcile(ctx, available)
		Expect(get(second)(ctx)).To(Succeed())
		Expect(second.DeletionTimestamp).To(BeNil())

		s.reconcile(ctx, hub)
		Eventually(ctx, get(second)).Should(beNotFound())
		Expect(get(statefulSet)(ctx)).To(Succeed())
		Expect(statefulSet.Spec.Replicas).To(HaveValue(Equal(int32(1))))
		Expect(get(first)(ctx)).To(Succeed())
		Expect(first.DeletionTimestamp).To(BeNil())
	})

	It("removes everything when it is deleted", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		createClaim(ctx, hubName, hub.Upstream)

		s.delete(ctx)
		Eventually(ctx, get(s.extension())).Should(beNotFound())
		Expect(get(s.managedResource(cache.ManagedResource))(ctx)).To(beNotFound())
		Expect(get(inShoot(&appsv1.StatefulSet{}, hubName))(ctx)).To(beNotFound())
		Eventually(ctx, get(inShoot(&corev1.PersistentVolumeClaim{}, component.ClaimName(hubName, 0)))).Should(beNotFound())
		expectNoCertificates(ctx, s.namespace)

		By("Services after the nodes no longer use them")
		Expect(get(inShoot(&corev1.Service{}, hubName))(ctx)).To(Succeed())
		s.succeed(ctx)
		Eventually(ctx, get(inShoot(&corev1.Service{}, hubName))).WithTimeout(time.Minute).Should(beNotFound())
		Eventually(ctx, get(s.managedResource(cache.ManagedResourceServices))).Should(beNotFound())
	})

	It("removes everything at once with the Shoot, which has no nodes", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.DeletionTimestamp = new(metav1.Now()) })
		s.delete(ctx)
		Eventually(ctx, get(s.extension())).Should(beNotFound())
		Expect(get(s.managedResource(cache.ManagedResourceServices))(ctx)).To(beNotFound())
		Expect(get(s.managedResource(cache.ManagedResource))(ctx)).To(beNotFound())
		Expect(get(inShoot(&corev1.Service{}, hubName))(ctx)).To(beNotFound())
		expectNoCertificates(ctx, s.namespace)
	})

	It("removes the Services last", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.DeletionTimestamp = new(metav1.Now()) })
		waitUntilApplied(ctx, s.managedResource(cache.ManagedResource))
		release := hold(ctx, s.managedResource(cache.ManagedResource))
		s.delete(ctx)
		Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, hubName))).Should(beNotFound())
		Consistently(ctx, get(inShoot(&corev1.Service{}, hubName))).Should(Succeed())
		release(ctx)
		Eventually(ctx, get(s.extension())).Should(beNotFound())
		Expect(get(inShoot(&corev1.Service{}, hubName))(ctx)).To(beNotFound())
	})

	It("does not wait when the Shoot is deleted by force", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		hold(ctx, s.managedResource(cache.ManagedResource))
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
			shoot.DeletionTimestamp = new(metav1.Now())
			metav1.SetMetaDataAnnotation(&shoot.ObjectMeta, v1beta1constants.AnnotationConfirmationForceDeletion, "true")
		})

		s.delete(ctx)
		Eventually(ctx, get(s.extension())).Should(beNotFound())
		managedResource := s.managedResource(cache.ManagedResource)
		Expect(get(managedResource)(ctx)).To(Succeed())
		Expect(managedResource.DeletionTimestamp).NotTo(BeNil())
		expectNoCertificates(ctx, s.namespace)
	})

	It("deploys caches again while the old ones are being removed", func(ctx SpecContext) {
		s.reconcile(ctx, hub)
		old := s.managedResource(cache.ManagedResource)
		waitUntilApplied(ctx, old)
		release := hold(ctx, old)
		Expect(testClient.Delete(ctx, old)).To(Succeed())
		Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, hubName))).Should(beNotFound())
		before := old.UID

		succeeded := make(chan struct{})
		go func() {
			defer GinkgoRecover()
			defer close(succeeded)
			s.reconcile(ctx, hub)
		}()
		Consistently(ctx, succeeded).ShouldNot(BeClosed())
		release(ctx)
		Eventually(ctx, succeeded).Should(BeClosed())
		again := s.managedResource(cache.ManagedResource)
		Expect(get(again)(ctx)).To(Succeed())
		Expect(again.UID).NotTo(Equal(before))
		Expect(again.DeletionTimestamp).To(BeNil())
		Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, hubName))).Should(Succeed())
	})

	Describe("of a hibernated Shoot", func() {
		hibernate := func(ctx context.Context, hibernated bool) {
			GinkgoHelper()
			s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
				shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(hibernated)}
				shoot.Status.IsHibernated = hibernated
			})
		}

		It("keeps its resources until the Shoot wakes up", func(ctx SpecContext) {
			s.reconcile(ctx, hub)
			hibernate(ctx, true)
			Expect(statusOf(s.reconcile(ctx, hub, v1alpha3.RegistryCache{Upstream: "quay.io"})).Caches).To(HaveLen(1))
			Expect(get(inShoot(&corev1.Service{}, "registry-quay-io"))(ctx)).To(beNotFound())

			hibernate(ctx, false)
			Expect(statusOf(s.reconcile(ctx, hub, v1alpha3.RegistryCache{Upstream: "quay.io"})).Caches).To(HaveLen(2))
		})

		It("is reconciled without an earlier deployment", func(ctx SpecContext) {
			hibernate(ctx, true)
			Expect(s.reconcile(ctx, hub).Status.ProviderStatus).To(BeNil())
		})

		It("is deleted without waiting for a control plane that is off", func(ctx SpecContext) {
			s.reconcile(ctx, hub)
			hibernate(ctx, true)
			hold(ctx, s.managedResource(cache.ManagedResource))
			s.delete(ctx)
			Eventually(ctx, get(s.extension())).Should(beNotFound())
			managedResource := s.managedResource(cache.ManagedResource)
			Expect(get(managedResource)(ctx)).To(Succeed())
			Expect(managedResource.DeletionTimestamp).NotTo(BeNil())
		})
	})

	It("leaves the caches running while the Shoot moves to another seed", func(ctx SpecContext) {
		s.reconcile(ctx, hub, v1alpha3.RegistryCache{Upstream: "quay.io"})
		status := statusOf(s.reconcile(ctx, hub))
		Expect(get(inShoot(&corev1.Service{}, "registry-quay-io"))(ctx)).To(Succeed())
		statefulSet := inShoot(&appsv1.StatefulSet{}, hubName)
		Eventually(ctx, get(statefulSet)).Should(Succeed())
		createClaim(ctx, hubName, hub.Upstream)

		By("Migrate")
		s.operate(ctx, v1beta1constants.GardenerOperationMigrate, gardencorev1beta1.LastOperationStateSucceeded, hub)
		Expect(get(s.managedResource(cache.ManagedResourceServices))(ctx)).To(beNotFound())
		Expect(get(s.managedResource(cache.ManagedResource))(ctx)).To(beNotFound())
		Expect(get(inShoot(&corev1.Service{}, hubName))(ctx)).To(Succeed())
		Expect(get(inShoot(&corev1.Service{}, "registry-quay-io"))(ctx)).To(beNotFound(), "the other seed does not know that it is retired")
		Expect(get(inShoot(&appsv1.StatefulSet{}, hubName))(ctx)).To(Succeed())
		persistent := &corev1.SecretList{}
		Expect(testClient.List(ctx, persistent, client.InNamespace(s.namespace), client.MatchingLabels{"persist": "true", "name": "ca-extension-registry-cache"})).To(Succeed())
		Expect(persistent.Items).To(HaveLen(1), "gardenlet copies the CA to the other seed")
		s.delete(ctx)
		Eventually(ctx, get(s.extension())).Should(beNotFound())

		By("Restore")
		restoredStatus := statusOf(s.operate(ctx, v1beta1constants.GardenerOperationRestore, gardencorev1beta1.LastOperationStateSucceeded, hub))
		status.Caches[0].Conditions, restoredStatus.Caches[0].Conditions = nil, nil // They follow from looks.
		Expect(restoredStatus).To(Equal(status))
		Eventually(ctx, get(s.managedResource(cache.ManagedResource))).Should(Succeed())
		restored := inShoot(&appsv1.StatefulSet{}, hubName)
		Expect(get(restored)(ctx)).To(Succeed())
		Expect(restored.UID).To(Equal(statefulSet.UID))
		Expect(get(inShoot(&corev1.PersistentVolumeClaim{}, component.ClaimName(hubName, 0)))(ctx)).To(Succeed())
	})

	Describe("with a volume that grows", func() {
		grown := v1alpha3.RegistryCache{Upstream: "docker.io", Volume: &v1alpha3.Volume{Size: new(resource.MustParse("20Gi"))}}

		It("expands the claim and replaces the StatefulSet", func(ctx SpecContext) {
			createStorageClass(ctx, true)
			s.reconcile(ctx, hub)
			before := inShoot(&appsv1.StatefulSet{}, hubName)
			Eventually(ctx, get(before)).Should(Succeed())
			claim := createClaim(ctx, hubName, hub.Upstream)

			s.reconcile(ctx, grown)
			Expect(get(claim)(ctx)).To(Succeed())
			Expect(claim.DeletionTimestamp).To(BeNil())
			Expect(claim.Spec.Resources.Requests.Storage().String()).To(Equal("20Gi"))
			after := inShoot(&appsv1.StatefulSet{}, hubName)
			Eventually(ctx, func(g Gomega) {
				g.Expect(get(after)(ctx)).To(Succeed())
				g.Expect(after.UID).NotTo(Equal(before.UID))
				g.Expect(after.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String()).To(Equal("20Gi"))
			}).Should(Succeed())
			Expect(after.Spec.Template).To(Equal(before.Spec.Template), "no pod needs to be replaced")

			By("Once only")
			s.reconcile(ctx, grown)
			Consistently(ctx, func(g Gomega) {
				again := inShoot(&appsv1.StatefulSet{}, hubName)
				g.Expect(get(again)(ctx)).To(Succeed())
				g.Expect(again.UID).To(Equal(after.UID))
			}).Should(Succeed())
		})

		It("reports a storage class that does not permit it, and does everything else", func(ctx SpecContext) {
			createStorageClass(ctx, false)
			s.reconcile(ctx, hub)
			before := inShoot(&appsv1.StatefulSet{}, hubName)
			Eventually(ctx, get(before)).Should(Succeed())
			claim := createClaim(ctx, hubName, hub.Upstream)

			available := grown
			available.HighAvailability = &v1alpha3.HighAvailability{Enabled: true}
			quay := v1alpha3.RegistryCache{Upstream: "quay.io"}
			lastError := s.reconcileWithError(ctx, available, quay)
			Expect(lastError.Codes).To(ConsistOf(gardencorev1beta1.ErrorRetryableConfigurationProblem))
			Expect(lastError.Description).To(And(
				ContainSubstring("cache docker.io"), ContainSubstring("from 10Gi to 20Gi"), ContainSubstring("allowVolumeExpansion"),
				ContainSubstring("only dynamically provisioned pvc can be resized"), Not(ContainSubstring("set its size back"))))
			Expect(get(claim)(ctx)).To(Succeed())
			Expect(claim.Spec.Resources.Requests.Storage().String()).To(Equal("10Gi"))

			after := inShoot(&appsv1.StatefulSet{}, hubName)
			Eventually(ctx, func(g Gomega) {
				g.Expect(get(after)(ctx)).To(Succeed())
				g.Expect(after.Spec.Replicas).To(HaveValue(Equal(int32(2))))
			}).Should(Succeed())
			Expect(after.UID).To(Equal(before.UID))
			Eventually(ctx, get(inShoot(&appsv1.StatefulSet{}, "registry-quay-io"))).Should(Succeed())
			extension := s.extension()
			Expect(get(extension)(ctx)).To(Succeed())
			Expect(statusOf(extension).Caches).To(HaveLen(2))
		})
	})

	It("rejects a configuration of an unknown version", func(ctx SpecContext) {
		extension := s.extension()
		extension.Annotations = map[string]string{v1beta1constants.GardenerOperation: v1beta1constants.GardenerOperationReconcile}
		extension.Spec = extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "registry-cache"}}
		Expect(testClient.Create(ctx, extension)).To(Succeed())
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(extension.Status.LastError).NotTo(BeNil())
			g.Expect(extension.Status.LastError.Codes).To(ConsistOf(gardencorev1beta1.ErrorConfigurationProblem))
			g.Expect(extension.Status.LastError.Description).To(ContainSubstring("providerConfig"))
		}).Should(Succeed())
	})
})

func inShoot[T client.Object](object T, name string) T {
	object.SetNamespace(component.Namespace)
	object.SetName(name)
	return object
}

func clusterIP(ctx context.Context, name string) string {
	GinkgoHelper()
	service := inShoot(&corev1.Service{}, name)
	Expect(get(service)(ctx)).To(Succeed())
	return service.Spec.ClusterIP
}

func expectCertificate(ctx context.Context, secretName, endpoint string, bundle []byte) {
	GinkgoHelper()
	secret := inShoot(&corev1.Secret{}, secretName)
	Eventually(ctx, get(secret)).Should(Succeed())
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	Expect(err).NotTo(HaveOccurred())
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(bundle)).To(BeTrue())
	location, err := url.Parse(endpoint)
	Expect(err).NotTo(HaveOccurred())
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: location.Hostname()})
	Expect(err).NotTo(HaveOccurred())
	Expect(pair.Leaf.NotAfter).To(BeTemporally("~", time.Now().Add(90*24*time.Hour), time.Hour))
}

func expectNoCertificates(ctx context.Context, namespace string) {
	GinkgoHelper()
	secrets := &corev1.SecretList{}
	Expect(testClient.List(ctx, secrets, client.InNamespace(namespace), client.MatchingLabels{"manager-identity": "extension-registry-cache"})).To(Succeed())
	Expect(secrets.Items).To(BeEmpty())
}

func waitUntilApplied(ctx context.Context, managedResource *resourcesv1alpha1.ManagedResource) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		g.Expect(get(managedResource)(ctx)).To(Succeed())
		g.Expect(health.CheckManagedResourceApplied(managedResource)).To(Succeed())
	}).Should(Succeed())
}

// hold prevents the removal of an object, as if its controller were down, until the returned function is called or the
// test ends.
func hold(ctx context.Context, object client.Object) (release func(context.Context)) {
	GinkgoHelper()
	set := func(ctx context.Context, finalizers string) error {
		return testClient.Patch(ctx, object, client.RawPatch("application/json-patch+json", []byte(finalizers)))
	}
	Eventually(ctx, func(ctx context.Context) error {
		return set(ctx, `[{"op":"add","path":"/metadata/finalizers/-","value":"example.com/hold"}]`)
	}).Should(Succeed())
	held := object.GetUID()
	release = func(ctx context.Context) {
		err := get(object)(ctx)
		if apierrors.IsNotFound(err) || object.GetDeletionTimestamp() == nil || object.GetUID() != held {
			return
		}
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(object)(ctx)).To(Succeed())
			g.Expect(object.GetFinalizers()).To(ConsistOf("example.com/hold"))
		}).Should(Succeed())
		Expect(set(ctx, `[{"op":"remove","path":"/metadata/finalizers"}]`)).To(Succeed())
	}
	DeferCleanup(release)
	return release
}

func newClaim(name string) *corev1.PersistentVolumeClaim {
	claim := inShoot(&corev1.PersistentVolumeClaim{}, name)
	claim.Spec = corev1.PersistentVolumeClaimSpec{
		AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		StorageClassName: new("example"),
		Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}},
	}
	return claim
}

// createClaim creates a claim with a volume, like the StatefulSet controller.
func createClaim(ctx context.Context, statefulSet, host string) *corev1.PersistentVolumeClaim {
	GinkgoHelper()
	claim := newClaim(component.ClaimName(statefulSet, 0))
	claim.Labels = component.Labels(upstream.Upstream(host))
	Expect(testClient.Create(ctx, claim)).To(Succeed())
	claim.Status.Phase = corev1.ClaimBound
	Expect(testClient.Status().Update(ctx, claim)).To(Succeed())
	return claim
}

func createStorageClass(ctx context.Context, expandable bool) {
	GinkgoHelper()
	class := &storagev1.StorageClass{
		ObjectMeta:           metav1.ObjectMeta{Name: "example"},
		Provisioner:          "example.com/volumes",
		AllowVolumeExpansion: new(expandable),
	}
	Expect(testClient.Create(ctx, class)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(testClient.Delete(ctx, class)).To(Succeed()) })
}
