// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/test/landscape/garden"
)

const (
	pullSecretName = "registry-pulls"
	// pullSecretDelay is within seconds.
	pullSecretDelay = 15 * time.Second

	// namespaceAtFirst exists before the pull secret, namespaceLater does not, and namespaceTaken has a Secret with its
	// name.
	namespaceAtFirst = "pulls-first"
	namespaceLater   = "pulls-later"
	namespaceTaken   = "pulls-taken"
)

// The cluster's nodes have no credentials, so only the pull secret lets a private image be pulled past its cache.
var _ = Describe("Pull secrets", Ordered, Label("pull-secrets"), func() {
	var (
		two     = robot("pull-secrets")
		wrong   = robot("pull-secrets-wrong")
		labels  = map[string]string{"pulls": "private"}
		foreign = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceTaken, Name: pullSecretName}, StringData: map[string]string{"mine": "value"}}
		kept    = garden.Cache(garden.PrivateHost)
	)
	kept.PullSecret = &v1alpha3.PullSecret{
		Name:                        pullSecretName,
		Namespaces:                  []string{namespaceAtFirst},
		NamespaceSelector:           &metav1.LabelSelector{MatchLabels: labels},
		AddToDefaultServiceAccounts: true,
	}
	kept.HTTP = &v1alpha3.HTTP{TLS: new(false)} // For pulls without a node's CAs.

	createNamespace := func(ctx context.Context, name string, labels map[string]string) {
		GinkgoHelper()
		Expect(c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})).To(Succeed())
	}
	// user returns the user name in the pull secret of a namespace.
	user := func(ctx context.Context, namespace string) func(Gomega) string {
		return func(g Gomega) string {
			secret := &corev1.Secret{}
			g.Expect(c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: pullSecretName}, secret)).To(Succeed())
			g.Expect(secret.Type).To(Equal(corev1.SecretTypeDockerConfigJson))
			auths := pullsecret.DecodeAuths(secret.Data[corev1.DockerConfigJsonKey])
			g.Expect(auths).To(HaveLen(1))
			g.Expect(auths).To(HaveKey(garden.PrivateHost))
			name, _, _ := strings.Cut(string(auths[garden.PrivateHost]), ":")
			return name
		}
	}
	referenced := func(ctx context.Context, namespace string) func(Gomega) []corev1.LocalObjectReference {
		return func(g Gomega) []corev1.LocalObjectReference {
			account := &corev1.ServiceAccount{}
			g.Expect(c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "default"}, account)).To(Succeed())
			return account.ImagePullSecrets
		}
	}
	condition := func(ctx context.Context) *metav1.Condition {
		return meta.FindStatusCondition(providerStatus(ctx).Conditions, registry.ConditionPullSecretReady)
	}
	puller := func() string {
		GinkgoHelper()
		username, _, err := here.Puller()
		Expect(err).NotTo(HaveOccurred())
		return username
	}

	BeforeAll(func(ctx context.Context) {
		createNamespace(ctx, namespaceAtFirst, nil)
		createNamespace(ctx, namespaceTaken, labels)
		Expect(c.Create(ctx, foreign)).To(Succeed())
		Expect(garden.EnsureCredentials(ctx, c, "pulls-v2", two.Username, two.Password)).To(Succeed())
		Expect(garden.EnsureCredentials(ctx, c, "pulls-wrong", wrong.Username, wrong.Password)).To(Succeed())
	}, NodeTimeout(journeyTimeout))

	AfterAll(func(ctx context.Context) {
		mayPull()
		configure(ctx, garden.Cache(garden.PrivateHost))
		for _, name := range []string{"pulls-v2", "pulls-wrong"} {
			Expect(client.IgnoreNotFound(c.Delete(ctx, projectSecret(name)))).To(Succeed())
		}
		for _, name := range []string{namespaceAtFirst, namespaceLater, namespaceTaken} {
			Expect(client.IgnoreNotFound(c.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))).To(Succeed())
		}
	}, NodeTimeout(journeyTimeout))

	It("are kept, rotated and removed", func(ctx context.Context) {
		configure(ctx, kept)
		Eventually(ctx, user(ctx, namespaceAtFirst)).Should(Equal(puller()))
		Eventually(ctx, referenced(ctx, namespaceAtFirst)).Should(ConsistOf(corev1.LocalObjectReference{Name: pullSecretName}))

		By("creating a namespace")
		began := time.Now()
		createNamespace(ctx, namespaceLater, labels)
		Eventually(ctx, user(ctx, namespaceLater)).WithTimeout(pullSecretDelay).Should(Equal(puller()))
		AddReportEntry("new namespace", fmt.Sprintf("has the pull secret after %s", time.Since(began).Round(time.Millisecond)))

		By("reporting a Secret of somebody else")
		Eventually(ctx, func(g Gomega) {
			found := condition(ctx)
			g.Expect(found).NotTo(BeNil())
			g.Expect(found.Reason).To(Equal("ForeignSecret"))
			g.Expect(found.Message).To(And(ContainSubstring(namespaceTaken), ContainSubstring(pullSecretName)))
			shown := systemComponents(g, getShoot(ctx))
			g.Expect(shown.Status).To(Equal(gardencorev1beta1.ConditionProgressing), "whoever may create a Secret must not make the Shoot unhealthy")
			g.Expect(shown.Message).To(ContainSubstring("namespace " + namespaceTaken))
		}).Should(Succeed())
		list := &eventsv1.EventList{}
		Expect(c.List(ctx, list, client.InNamespace(namespaceTaken))).To(Succeed())
		Expect(list.Items).To(ContainElement(HaveField("Reason", "ForeignSecret")))
		Expect(referenced(ctx, namespaceTaken)(Default)).To(BeEmpty())

		By("keeping the credential while the upstream rejects a new one, with pulls running")
		load := startPulls(ctx)
		refer(ctx, "pulls-wrong")
		Eventually(ctx, func(g Gomega) registry.CredentialsStatus { return credentialsStatus(ctx, g) }).Should(HaveField("State", registry.CredentialsRejected))
		for _, namespace := range []string{namespaceAtFirst, namespaceLater} {
			Consistently(ctx, user(ctx, namespace)).WithTimeout(pullSecretDelay).Should(Equal(puller()))
		}

		By("rotating the credential, with pulls running")
		mayPull(two)
		refer(ctx, "pulls-v2")
		waitUntilUsed(ctx, "pulls-v2")
		for _, namespace := range []string{namespaceAtFirst, namespaceLater} {
			Expect(user(ctx, namespace)(Default)).To(Equal(two.Username), "pull secrets have the new credential before the old one is revoked")
		}
		load.awaitPulls(ctx, pullsPerSecond)
		result := load.stop()
		Expect(result.failures).To(BeEmpty())

		By("removing the pull secret from the cache")
		configure(ctx, garden.Cache(garden.PrivateHost))
		for _, namespace := range []string{namespaceAtFirst, namespaceLater} {
			expectGone(ctx, &corev1.Secret{}, client.ObjectKey{Namespace: namespace, Name: pullSecretName})
			Eventually(ctx, referenced(ctx, namespace)).Should(BeEmpty())
		}
		expectGone(ctx, &appsv1.StatefulSet{}, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: pullsecrets.Name})
		secret := &corev1.Secret{}
		Expect(c.Get(ctx, client.ObjectKeyFromObject(foreign), secret)).To(Succeed())
		Expect(secret.ResourceVersion).To(Equal(foreign.ResourceVersion), "the Secret of somebody else is untouched")
		Eventually(ctx, func() *metav1.Condition { return condition(ctx) }).Should(BeNil())
	}, SpecTimeout(journeyTimeout))

	It("let pods pull private images with a rotated credential while the cache is down", func(ctx context.Context) {
		Expect(client.IgnoreNotFound(c.Delete(ctx, foreign.DeepCopy()))).To(Succeed())
		configure(ctx, kept)
		Eventually(ctx, user(ctx, namespaceAtFirst)).Should(Equal(puller()))
		Eventually(ctx, referenced(ctx, namespaceAtFirst)).ShouldNot(BeEmpty())
		Eventually(ctx, func(g Gomega) {
			found := condition(ctx)
			g.Expect(found).NotTo(BeNil())
			g.Expect(found.Status).To(Equal(metav1.ConditionTrue), found.Message)
		}).Should(Succeed())
		mayPull(two)
		refer(ctx, "pulls-v2")
		waitUntilUsed(ctx, "pulls-v2")
		stopCache(ctx, garden.PrivateHost)
		// AfterAll runs before the cleanup of stopCache, and needs the cache.
		defer startCache(context.WithoutCancel(ctx), garden.PrivateHost)

		for _, namespace := range []string{namespaceAtFirst, namespaceLater} {
			image := newImage(ctx, garden.PrivateHost)
			log := accessLog()
			pull(ctx, image, func(pod *corev1.Pod) { pod.Namespace = namespace })
			requests, err := log.Requests("/" + repository + "/")
			Expect(err).NotTo(HaveOccurred())
			Expect(requests).To(ContainElement(HaveField("User", two.Username)), namespace)
			for _, request := range requests {
				Expect(request.Client).To(Equal(here.IP()), request.Line)
			}
		}
	}, SpecTimeout(journeyTimeout))
})
