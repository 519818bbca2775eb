// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"encoding/json"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/controller/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// The controller in the Shoot is a pod that reports what the test wants; test/integration/pullsecrets has the real one.
var _ = Describe("Pull secrets", func() {
	private := v1alpha3.RegistryCache{
		Upstream:            "pulls.example.com",
		SecretReferenceName: new("upstream-credentials"),
		HTTP:                &v1alpha3.HTTP{TLS: new(false)},
	}
	kept := *private.DeepCopy()
	kept.PullSecret = &v1alpha3.PullSecret{Name: "registry-pulls", Namespaces: []string{"default"}}
	password := func(version string) map[string]string {
		return map[string]string{"username": "robot", "password": "password of " + version}
	}

	feed := func(ctx context.Context) func(Gomega) *pullsecret.Credential {
		return func(g Gomega) *pullsecret.Credential {
			secret := inShoot(&corev1.Secret{}, pullsecret.FeedName)
			g.Expect(get(secret)(ctx)).To(Succeed())
			decoded, err := pullsecret.DecodeFeed(secret.Data[pullsecret.FeedKey])
			g.Expect(err).NotTo(HaveOccurred())
			return decoded.Published("registry-pulls", "pulls.example.com", nil)
		}
	}
	used := func(ctx context.Context) func(Gomega) string {
		return func(g Gomega) string {
			set := inShoot(&appsv1.StatefulSet{}, "registry-pulls-example-com")
			g.Expect(get(set)(ctx)).To(Succeed())
			return set.Annotations["registry.extensions.gardener.cloud/secret-name"]
		}
	}
	report := func(r *replica, report pullsecret.Report) {
		GinkgoHelper()
		document, err := json.Marshal(report)
		Expect(err).NotTo(HaveOccurred())
		r.set(pullsecret.ReportPath, document)
	}

	It("get credentials once the upstream has accepted them, report problems, and go without a trace", func(ctx SpecContext) {
		s := newShoot(ctx)
		s.refer(ctx, "upstream-credentials", "v1", password("v1"))
		extension := s.reconcile(ctx, kept)
		Eventually(ctx, feed(ctx)).Should(And(HaveField("Name", "v1"), HaveField("Material", BeNil())))
		for _, object := range []client.Object{
			&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: pullsecret.Namespace, Name: pullsecrets.Name}},
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: pullsecret.OwnerName("registry-pulls")}},
		} {
			Eventually(ctx, get(object)).Should(Succeed())
		}

		By("Accept the credential")
		r := newReplica(ctx, private.Upstream)
		newPullSecretController(ctx)
		r.say(credentials.Report{SecretName: "v1", State: credentials.StateActive})
		Eventually(ctx, feed(ctx)).Should(And(HaveField("Name", "v1"), HaveField("Material.Credential.Password", "password of v1")))
		foreign := []pullsecret.SecretReport{{Name: "registry-pulls", Foreign: pullsecret.Namespaces{Listed: []string{"default"}, Count: 1}}}
		report(r, pullsecret.Report{Feed: feedDigest(ctx), Secrets: foreign})
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			status := statusOf(extension).Caches[0]
			g.Expect(status.PullSecret).To(Equal(&registry.PullSecretStatus{Name: "registry-pulls", SecretNames: []string{"v1"}}))
			condition := meta.FindStatusCondition(status.Conditions, registry.ConditionPullSecretReady)
			g.Expect(condition).To(HaveValue(HaveField("Reason", "ForeignSecret")))
			g.Expect(extension.Status.Conditions).To(ContainElement(And(
				HaveField("Type", gardencorev1beta1.ShootSystemComponentsHealthy),
				HaveField("Message", ContainSubstring(`Pull secret "registry-pulls" is missing in namespace default`)),
			)))
		}).Should(Succeed())

		By("Rotate: pods keep the old credential until the new one is accepted")
		s.createSecret(ctx, "v2", password("v2"), true)
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources[0].ResourceRef.Name = "v2" })
		s.reconcile(ctx, kept)
		Eventually(ctx, feed(ctx)).Should(HaveField("Name", "v1"))
		r.say(credentials.Report{SecretName: "v2", State: credentials.StateActive})
		Eventually(ctx, feed(ctx)).Should(And(HaveField("Name", "v2"), HaveField("Material.Credential.Password", "password of v2")))

		By("End the rotation when all namespaces have the new credential")
		Consistently(ctx, used(ctx)).WithTimeout(5 * time.Second).ShouldNot(Equal("v2"))
		report(r, pullsecret.Report{Feed: feedDigest(ctx), Secrets: foreign})
		Eventually(ctx, used(ctx)).Should(Equal("v2"))

		By("Remove the pull secret: the controller goes after it has cleaned up")
		nothing, err := pullsecret.Feed{}.Encode()
		Expect(err).NotTo(HaveOccurred())
		report(r, pullsecret.Report{Feed: pullsecret.Digest(nothing)})
		extension = s.reconcile(ctx, private)
		Expect(statusOf(extension).Caches[0].PullSecret).To(BeNil())
		Expect(meta.FindStatusCondition(statusOf(extension).Caches[0].Conditions, registry.ConditionPullSecretReady)).To(BeNil())
		Eventually(ctx, get(s.managedResource(cache.ManagedResourcePullSecrets))).Should(beNotFound())
		Eventually(ctx, get(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: pullsecret.OwnerName("registry-pulls")}})).Should(beNotFound())
	})
})

// feedDigest returns the digest of the feed in the Shoot.
func feedDigest(ctx context.Context) string {
	GinkgoHelper()
	secret := inShoot(&corev1.Secret{}, pullsecret.FeedName)
	Expect(get(secret)(ctx)).To(Succeed())
	return pullsecret.Digest(secret.Data[pullsecret.FeedKey])
}

// newPullSecretController creates the running pod of the controller in the Shoot, which a [replica] stands in for.
func newPullSecretController(ctx context.Context) {
	GinkgoHelper()
	pod := inShoot(&corev1.Pod{}, pullsecrets.PodName)
	pod.Spec.Containers = []corev1.Container{{Name: "pull-secrets", Image: "example.com/registry-cache-pull-secrets:v1"}}
	Expect(testClient.Create(ctx, pod)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(testClient.Delete(ctx, pod, client.GracePeriodSeconds(0)))).To(Succeed())
	})
	pod.Status.Phase, pod.Status.PodIP = corev1.PodRunning, hostAddress()
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	Expect(testClient.Status().Update(ctx, pod)).To(Succeed())
}
