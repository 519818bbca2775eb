// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"crypto/rand"
	"encoding/json"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	mirrorv1alpha1 "github.com/larder-project/larder/pkg/apis/mirror/v1alpha1"
	registryv1alpha3 "github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/pki"
)

var _ = Describe("Extension for mirrors", func() {
	var (
		s      *shoot
		mirror *extensionsv1alpha1.Extension
		bundle map[string]string
		quay   = mirrorv1alpha1.Mirror{Upstream: "quay.io", Hosts: []mirrorv1alpha1.Host{
			{Host: "https://mirror.example.com", CABundleSecretReferenceName: new("mirror-ca")},
		}}
	)

	BeforeEach(func(ctx SpecContext) {
		s = newShoot(ctx)
		mirror = &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "registry-mirror"}}
		authority, err := pki.NewAuthority("mirror")
		Expect(err).NotTo(HaveOccurred())
		bundle = map[string]string{"bundle.crt": string(authority.Certificate)}
		DeferCleanup(func(ctx context.Context) {
			Expect(client.IgnoreNotFound(testClient.Delete(ctx, mirror))).To(Succeed())
			Eventually(ctx, get(mirror)).Should(beNotFound())
		})
	})

	// operate is like that of a shoot.
	operate := func(ctx context.Context, operation string, state gardencorev1beta1.LastOperationState, mirrors ...mirrorv1alpha1.Mirror) {
		GinkgoHelper()
		data, err := json.Marshal(struct {
			mirrorv1alpha1.MirrorConfig
			Operation string `json:"operation"`
		}{mirrorv1alpha1.MirrorConfig{
			TypeMeta: metav1.TypeMeta{APIVersion: mirrorv1alpha1.SchemeGroupVersion.String(), Kind: "MirrorConfig"},
			Mirrors:  mirrors,
		}, rand.Text()})
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, func() error {
			_, err := controllerutil.CreateOrUpdate(ctx, testClient, mirror, func() error {
				metav1.SetMetaDataAnnotation(&mirror.ObjectMeta, v1beta1constants.GardenerOperation, operation)
				mirror.Spec.Type = "registry-mirror"
				mirror.Spec.ProviderConfig = &runtime.RawExtension{Raw: data}
				return nil
			})
			return err
		}).Should(Succeed())
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(mirror)(ctx)).To(Succeed())
			g.Expect(mirror.Status.LastOperation).To(HaveValue(HaveField("State", state)))
			g.Expect(mirror.Status.ObservedGeneration).To(Equal(mirror.Generation))
		}).Should(Succeed())
	}

	It("accepts mirrors in every operation without deploying objects", func(ctx SpecContext) {
		s.refer(ctx, "mirror-ca", "ca-v1", bundle)
		operate(ctx, v1beta1constants.GardenerOperationReconcile, gardencorev1beta1.LastOperationStateSucceeded, quay)
		Expect(mirror.Finalizers).To(ConsistOf("extensions.gardener.cloud/registry-mirror"))
		Expect(mirror.Status.ProviderStatus).To(BeNil())
		managedResources := &resourcesv1alpha1.ManagedResourceList{}
		Expect(testClient.List(ctx, managedResources, client.InNamespace(s.namespace))).To(Succeed())
		Expect(managedResources.Items).To(BeEmpty())

		By("Hibernate")
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
			shoot.Spec.Hibernation = &gardencorev1beta1.Hibernation{Enabled: new(true)}
		})
		operate(ctx, v1beta1constants.GardenerOperationReconcile, gardencorev1beta1.LastOperationStateSucceeded, quay)

		By("Move to another seed and back")
		operate(ctx, v1beta1constants.GardenerOperationMigrate, gardencorev1beta1.LastOperationStateSucceeded, quay)
		Expect(mirror.Finalizers).To(BeEmpty())
		operate(ctx, v1beta1constants.GardenerOperationRestore, gardencorev1beta1.LastOperationStateSucceeded, quay)

		Expect(testClient.Delete(ctx, mirror)).To(Succeed())
		Eventually(ctx, get(mirror)).Should(beNotFound())
	})

	It("reports what is wrong with a Secret, and recovers when another one is referenced", func(ctx SpecContext) {
		s.refer(ctx, "mirror-ca", "ca-v1", map[string]string{"bundle.crt": "no certificate"})
		operate(ctx, v1beta1constants.GardenerOperationReconcile, gardencorev1beta1.LastOperationStateError, quay)
		Expect(mirror.Status.LastError.Codes).To(ConsistOf(gardencorev1beta1.ErrorConfigurationProblem))
		Expect(mirror.Status.LastError.Description).To(And(
			ContainSubstring("mirror of quay.io"), ContainSubstring(`the Secret "ca-v1" is invalid`), ContainSubstring(`"bundle.crt"`)))

		By("Reference another Secret")
		s.createSecret(ctx, "ca-v2", bundle, true)
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources[0].ResourceRef.Name = "ca-v2" })
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(mirror)(ctx)).To(Succeed())
			g.Expect(mirror.Status.LastOperation).To(HaveValue(HaveField("State", gardencorev1beta1.LastOperationStateSucceeded)))
			g.Expect(mirror.Status.LastError).To(BeNil())
		}).Should(Succeed())
	})

	It("has a webhook for nodes of its own", func(ctx SpecContext) {
		config := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "gardener-extension-registry-cache"}}
		Eventually(ctx, get(config)).Should(Succeed())
		labels := map[string]string{}
		for _, webhook := range config.Webhooks {
			Expect(webhook.NamespaceSelector.MatchExpressions).To(HaveLen(1))
			Expect(webhook.NamespaceSelector.MatchExpressions[0].Values).To(ConsistOf("true"))
			labels[webhook.Name] = webhook.NamespaceSelector.MatchExpressions[0].Key
		}
		Expect(labels).To(Equal(map[string]string{
			"operatingsystemconfig.registry-cache.extensions.gardener.cloud":         "extensions.gardener.cloud/registry-cache",
			"operatingsystemconfig-mirrors.registry-cache.extensions.gardener.cloud": "extensions.gardener.cloud/registry-mirror",
		}))
	})

	It("does not depend on the caches of the same Shoot", func(ctx SpecContext) {
		s.refer(ctx, "mirror-ca", "ca-v1", bundle)
		hub := registryv1alpha3.RegistryCache{Upstream: "docker.io", SecretReferenceName: new("nothing")}
		s.reconcileWithError(ctx, hub)
		operate(ctx, v1beta1constants.GardenerOperationReconcile, gardencorev1beta1.LastOperationStateSucceeded, quay)
	})
})
