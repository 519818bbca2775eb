// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"encoding/json"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/controller/cache"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/pullsecret"
)

var _ = Describe("Access", func() {
	const name = "registry-access-example-com"
	open := v1alpha3.RegistryCache{Upstream: "access.example.com"}
	forNodes := *open.DeepCopy()
	forNodes.Access = &v1alpha3.Access{Mode: v1alpha3.AccessNodes}
	forNodes.Accounts = []v1alpha3.Account{{Name: "builder", Namespaces: []string{"default"}, Repositories: []string{"library"}}}
	forPods := *open.DeepCopy()
	forPods.Access = &v1alpha3.Access{Mode: v1alpha3.AccessPullSecrets}

	accessSecret := func(ctx context.Context) func() (map[string]string, error) {
		return func() (map[string]string, error) {
			secret := inShoot(&corev1.Secret{}, name+"-access")
			err := get(secret)(ctx)
			files := map[string]string{}
			for key, value := range secret.Data {
				files[key] = string(value)
			}
			return files, err
		}
	}
	configuration := func(ctx context.Context) func() string {
		return func() string {
			secret := inShoot(&corev1.Secret{}, name+"-config")
			_ = get(secret)(ctx)
			return string(secret.Data["config.yml"])
		}
	}

	It("is restricted, reported on with a token, and opened again, with and without accounts", func(ctx SpecContext) {
		s := newShoot(ctx)
		extension := s.reconcile(ctx, forNodes)
		Eventually(ctx, accessSecret(ctx)).Should(And(HaveKey("debug-token"), HaveKey("client-ca.crt")))
		files, err := accessSecret(ctx)()
		Expect(err).NotTo(HaveOccurred())
		bundle := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: extension.Namespace, Name: *statusOf(extension).CASecretName}}
		Expect(get(bundle)(ctx)).To(Succeed())
		Expect(files["client-ca.crt"]).To(Equal(string(bundle.Data["bundle.crt"])))
		Eventually(ctx, configuration(ctx)).Should(And(ContainSubstring("mode: Nodes"), ContainSubstring("accountsfile: ")))

		By("Describe the account to the controller in the Shoot and to its owner")
		feed := inShoot(&corev1.Secret{}, pullsecret.FeedName)
		Eventually(ctx, get(feed)).Should(Succeed())
		decoded, err := pullsecret.DecodeFeed(feed.Data[pullsecret.FeedKey])
		Expect(err).NotTo(HaveOccurred())
		Expect(decoded).To(Equal(pullsecret.Feed{CABundle: files["client-ca.crt"], Accounts: []pullsecret.Account{{
			Cache: name, Name: "builder", SecretName: name + ".builder", Namespaces: []string{"default"}, Repositories: []string{"library"},
			Registry: name + ".kube-system.svc:5000", RotationPeriod: metav1.Duration{Duration: 24 * time.Hour},
		}}}))
		Expect(statusOf(extension).Caches[0].Accounts).To(ConsistOf(registry.AccountStatus{Name: "builder", Registry: name + ".kube-system.svc:5000", SecretName: name + ".builder"}))
		Eventually(ctx, get(inShoot(&rbacv1.Role{}, name+"-accounts"))).Should(Succeed())

		By("Look at its state, through the proxy of a real API server")
		r := newReplica(ctx, open.Upstream, corev1.Volume{Name: "access", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		newPullSecretController(ctx)
		r.sayStatus(status.Report{Upstream: status.Upstream{Host: open.Upstream, Reachable: true}})
		report := pullsecret.Report{Feed: feedDigest(ctx), Secrets: []pullsecret.SecretReport{{Name: name + ".builder", Foreign: pullsecret.Namespaces{Listed: []string{"default"}, Count: 1}}}}
		document, err := json.Marshal(report)
		Expect(err).NotTo(HaveOccurred())
		r.set(pullsecret.ReportPath, document)
		Eventually(ctx, r.debugToken).Should(Equal(files["debug-token"]))
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			condition := meta.FindStatusCondition(statusOf(extension).Caches[0].Conditions, registry.ConditionAccountsReady)
			g.Expect(condition).To(HaveValue(HaveField("Reason", "ForeignSecret")))
		}).Should(Succeed())

		By("Report that nodes cannot present their certificate because of the hosts of another extension")
		pod := inShoot(&corev1.Pod{}, name+"-0")
		Expect(get(pod)(ctx)).To(Succeed())
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		Expect(testClient.Status().Update(ctx, pod)).To(Succeed())
		Expect(testClient.Create(ctx, &extensionsv1alpha1.OperatingSystemConfig{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: s.namespace, Name: "pool", Annotations: map[string]string{registry.SharedRegistriesAnnotation: `{"access.example.com":{}}`},
			},
			Spec: extensionsv1alpha1.OperatingSystemConfigSpec{
				DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "gardenlinux"}, Purpose: extensionsv1alpha1.OperatingSystemConfigPurposeReconcile,
			},
		})).To(Succeed())
		Eventually(ctx, func(g Gomega) {
			s.reconcile(ctx, forNodes)
			g.Expect(get(extension)(ctx)).To(Succeed())
			condition := meta.FindStatusCondition(statusOf(extension).Caches[0].Conditions, registry.ConditionReady)
			g.Expect(condition).To(HaveValue(HaveField("Reason", string(readiness.NodesUseUpstream))))
			events := &eventsv1.EventList{}
			g.Expect(testClient.List(ctx, events, client.InNamespace(s.namespace))).To(Succeed())
			g.Expect(events.Items).To(ContainElement(And(HaveField("Reason", "Cache"+string(readiness.NodesUseUpstream)), HaveField("Type", corev1.EventTypeWarning))))
		}).Should(Succeed())

		By("Keep the token, unless somebody has changed it to something else")
		s.reconcile(ctx, forNodes)
		again, err := accessSecret(ctx)()
		Expect(err).NotTo(HaveOccurred())
		Expect(again).To(Equal(files))
		changed := inShoot(&corev1.Secret{}, name+"-access")
		Expect(get(changed)(ctx)).To(Succeed())
		changed.Data["debug-token"] = []byte("x")
		Expect(testClient.Update(ctx, changed)).To(Succeed())
		s.reconcile(ctx, forNodes)
		Eventually(ctx, func() string {
			files, _ := accessSecret(ctx)()
			return files["debug-token"]
		}).Should(And(HaveLen(len(files["debug-token"])), Not(Equal(files["debug-token"]))))

		By("Change the mode and remove the account")
		nothing, err := pullsecret.Feed{}.Encode()
		Expect(err).NotTo(HaveOccurred())
		document, err = json.Marshal(pullsecret.Report{Feed: pullsecret.Digest(nothing)})
		Expect(err).NotTo(HaveOccurred())
		r.set(pullsecret.ReportPath, document)
		extension = s.reconcile(ctx, forPods)
		Eventually(ctx, configuration(ctx)).Should(And(ContainSubstring("mode: PullSecrets"), ContainSubstring("grantduration: 5m0s"), Not(ContainSubstring("accountsfile"))))
		Eventually(ctx, accessSecret(ctx)).Should(And(HaveKey("debug-token"), Not(HaveKey("client-ca.crt"))))
		Expect(statusOf(extension).Caches[0].Accounts).To(BeEmpty())
		Expect(meta.FindStatusCondition(statusOf(extension).Caches[0].Conditions, registry.ConditionAccountsReady)).To(BeNil())
		Eventually(ctx, get(s.managedResource(cache.ManagedResourcePullSecrets))).Should(beNotFound())
		for _, object := range []client.Object{
			inShoot(&rbacv1.Role{}, name+"-accounts"),
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: pullsecret.OwnerName(name + ".builder")}},
			inShoot(&corev1.Secret{}, pullsecrets.Name),
		} {
			Eventually(ctx, get(object)).Should(beNotFound())
		}

		By("Open it")
		s.reconcile(ctx, open)
		Eventually(ctx, get(inShoot(&corev1.Secret{}, name+"-access"))).Should(beNotFound())
		Eventually(ctx, configuration(ctx)).Should(And(ContainSubstring("remoteurl"), Not(ContainSubstring("access:"))))
	})

	It("is restricted to nodes when they have their certificate, which they keep while the cache is opened again", func(ctx SpecContext) {
		s := newShoot(ctx)
		s.reconcile(ctx, open)
		Eventually(ctx, configuration(ctx)).Should(ContainSubstring("remoteurl"))

		extension := s.reconcile(ctx, forNodes)
		Expect(statusOf(extension).NodeCertificateSecretName).NotTo(BeNil())
		Expect(statusOf(extension).Caches).To(ConsistOf(And(
			HaveField("AccessMode", BeEmpty()), HaveField("PendingAccessMode", registry.AccessNodes), HaveField("Accounts", BeEmpty()))))
		Consistently(ctx, configuration(ctx), time.Second).ShouldNot(ContainSubstring("access:"))

		By("End an operation of the Shoot, after which all nodes have it")
		s.succeed(ctx)
		Eventually(ctx, configuration(ctx), time.Minute).Should(ContainSubstring("mode: Nodes"))
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(statusOf(extension).Caches).To(ConsistOf(And(
				HaveField("AccessMode", registry.AccessNodes), HaveField("PendingAccessMode", BeEmpty()), HaveField("Accounts", HaveLen(1)))))
		}).Should(Succeed())

		By("Open it")
		extension = s.reconcile(ctx, open)
		Eventually(ctx, configuration(ctx)).Should(And(ContainSubstring("remoteurl"), Not(ContainSubstring("access:"))))
		Expect(statusOf(extension).Caches).To(ConsistOf(HaveField("AccessMode", BeEmpty())))
		Expect(statusOf(extension).NodeCertificateSecretName).NotTo(BeNil(), "replicas may still ask for it")
	})

	It("goes on serving pull secrets as configured, without a restart, until nodes have their certificate", func(ctx SpecContext) {
		forPods := *forPods.DeepCopy()
		forPods.Access.GrantDuration, forPods.Access.OutageGrantDuration = &metav1.Duration{Duration: 30 * time.Second}, &metav1.Duration{}
		forNodes := *forNodes.DeepCopy()
		forNodes.Accounts = nil
		statefulSet := inShoot(&appsv1.StatefulSet{}, name)

		s := newShoot(ctx)
		s.reconcile(ctx, forPods)
		Eventually(ctx, configuration(ctx)).Should(And(ContainSubstring("grantduration: 30s"), ContainSubstring("outagegrantduration: 0s")))
		Eventually(ctx, get(statefulSet)).Should(Succeed())
		generation, served := statefulSet.Generation, configuration(ctx)()

		extension := s.reconcile(ctx, forNodes)
		Expect(statusOf(extension).Caches).To(ConsistOf(HaveField("AccessMode", registry.AccessPullSecrets)))
		Consistently(ctx, configuration(ctx), time.Second).Should(Equal(served))
		Expect(get(statefulSet)(ctx)).To(Succeed())
		Expect(statefulSet.Generation).To(Equal(generation))

		By("End an operation of the Shoot, after which all nodes have it")
		s.succeed(ctx)
		Eventually(ctx, configuration(ctx), time.Minute).Should(And(ContainSubstring("mode: Nodes"), Not(ContainSubstring("grantduration"))))
	})
})
