// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"fmt"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/landscape/gardenlet"
)

const journeySecret = "journey-v1"

var _ = Describe("Messages to owners", func() {
	DescribeTable("reject an invalid Shoot", Label("admission"),
		func(ctx context.Context, spoil func(*gardencorev1beta1.Shoot), messages ...string) {
			err := tryShoot(ctx, spoil)
			for _, message := range messages {
				Expect(err).To(MatchError(ContainSubstring(message)))
			}
		},
		Entry("an upstream with a scheme", withCaches(v1alpha3.RegistryCache{Upstream: "https://r.example"}),
			"spec.extensions[0].providerConfig.caches[0].upstream"),
		Entry("several errors at once", withCaches(v1alpha3.RegistryCache{Upstream: "r.example", RemoteURL: new("ftp://r.example")}, v1alpha3.RegistryCache{Upstream: "r.example"}),
			"spec.extensions[0].providerConfig.caches[0].remoteURL", "spec.extensions[0].providerConfig.caches[1].upstream"),
		Entry("an unknown field", withProviderConfig(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"r.example","ttl":"1h"}]}`),
			"spec.extensions[0].providerConfig.caches[0].ttl", "unknown field"),
		Entry("no configuration", func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Extensions[0].ProviderConfig = nil },
			"spec.extensions[0].providerConfig"),
		Entry("a reference without an entry in spec.resources", func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources = nil },
			"spec.extensions[0].providerConfig.caches[0].secretReferenceName"),
	)

	It("reject an invalid Secret", Label("wrong-secret"), func(ctx context.Context) {
		createSecret(ctx, &corev1.Secret{Data: map[string][]byte{"username": []byte("robot")}})

		shoot := getShoot(ctx)
		patch := client.MergeFrom(shoot.DeepCopy())
		shoot.Spec.Resources[0].ResourceRef.Name = journeySecret
		Expect(c.Patch(ctx, shoot, patch, client.DryRunAll)).To(MatchError(And(
			ContainSubstring(journeySecret), ContainSubstring("immutable"), ContainSubstring("password"),
		)))
	}, SpecTimeout(journeyTimeout))

	// Admission rejects invalid Secrets. Only a client with more permissions can replace a Secret under its name.
	It("name a Secret that has become invalid in the Shoot's status", Label("wrong-secret"), func(ctx context.Context) {
		username, password, err := here.Puller()
		Expect(err).NotTo(HaveOccurred())
		Expect(garden.EnsureCredentials(ctx, c, journeySecret, username, password)).To(Succeed())
		DeferCleanup(deleteSecret)
		refer := func(secret string) {
			GinkgoHelper()
			shoot := getShoot(ctx)
			patch := client.MergeFrom(shoot.DeepCopy())
			shoot.Spec.Resources[0].ResourceRef.Name = secret
			Expect(c.Patch(ctx, shoot, patch)).To(Succeed())
			Expect(garden.WaitForShoot(ctx, c, shootKey)).To(Succeed())
		}
		refer(journeySecret)
		image := newImage(ctx, garden.PrivateHost)
		pull(ctx, image)

		By("replacing the Secret")
		deleteSecret(ctx)
		createSecret(ctx, &corev1.Secret{Immutable: new(true), Data: map[string][]byte{"username": []byte(username)}})
		shoot := getShoot(ctx)
		patch := client.MergeFrom(shoot.DeepCopy())
		metav1.SetMetaDataAnnotation(&shoot.ObjectMeta, v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile)
		Expect(c.Patch(ctx, shoot, patch)).To(Succeed(), "an existing error must not block the Shoot")

		Eventually(ctx, func(g Gomega) {
			errors := getShoot(ctx).Status.LastErrors
			g.Expect(errors).To(HaveLen(1))
			g.Expect(errors[0].Description).To(And(ContainSubstring(journeySecret), ContainSubstring("password")))
			g.Expect(errors[0].Codes).To(ContainElement(gardencorev1beta1.ErrorConfigurationProblem))
		}).Should(Succeed())

		By("pulling with the credentials that the cache still has")
		pull(ctx, newImage(ctx, garden.PrivateHost))

		By("referencing a valid Secret")
		refer(garden.CredentialsName)
		Expect(getShoot(ctx).Status.LastErrors).To(BeEmpty())
	}, SpecTimeout(journeyTimeout))
})

func withCaches(caches ...v1alpha3.RegistryCache) func(*gardencorev1beta1.Shoot) {
	return func(shoot *gardencorev1beta1.Shoot) {
		other, err := garden.Shoot(here, caches...)
		Expect(err).NotTo(HaveOccurred())
		shoot.Spec.Extensions = other.Spec.Extensions
	}
}

func withProviderConfig(config string) func(*gardencorev1beta1.Shoot) {
	return func(shoot *gardencorev1beta1.Shoot) {
		shoot.Spec.Extensions[0].ProviderConfig = &runtime.RawExtension{Raw: []byte(config)}
	}
}

// createSecret creates the journey's Secret in the project.
func createSecret(ctx context.Context, secret *corev1.Secret) {
	GinkgoHelper()
	secret.Name, secret.Namespace = journeySecret, gardenlet.ProjectNamespace
	Expect(c.Create(ctx, secret)).To(Succeed())
	DeferCleanup(deleteSecret)
}

// deleteSecret deletes the journey's Secret, although it is protected while a Shoot uses it, as a client that can
// remove its finalizer and take the namespace from the project.
func deleteSecret(ctx context.Context) {
	GinkgoHelper()
	key := client.ObjectKey{Namespace: gardenlet.ProjectNamespace, Name: journeySecret}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	Expect(client.IgnoreNotFound(c.Patch(ctx, secret, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))))).To(Succeed())
	labelProject := func(role string) {
		GinkgoHelper()
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: key.Namespace}}
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, v1beta1constants.GardenRole, role)
		Expect(c.Patch(ctx, namespace, client.RawPatch("application/merge-patch+json", patch))).To(Succeed())
	}
	labelProject("")
	defer labelProject(v1beta1constants.GardenRoleProject)
	// kube-apiserver notices the label with a delay.
	Eventually(ctx, func() error { return client.IgnoreNotFound(c.Delete(ctx, secret)) }).Should(Succeed())
	expectGone(ctx, secret, key)
}
