// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecrets_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/pkg/pullsecret/keeper"
)

// The controller runs with the token of its ServiceAccount, and time is stepped.
var _ = Describe("Accounts", Ordered, func() {
	var (
		cache string // also the prefix of the namespaces
		feed  pullsecret.Feed
		clock *clocktesting.FakeClock
		kept  *keeper.Keeper
	)

	BeforeEach(func() {
		cache = fmt.Sprintf("registry-accounts-%d", number.Add(1))
		feed = pullsecret.Feed{CABundle: "example CA", Accounts: []pullsecret.Account{{
			Cache: cache, Name: "builder", SecretName: cache + ".builder", Namespaces: []string{cache + "-ci", cache + "-scan"}, Repositories: []string{"library"},
			Registry: cache + ".kube-system.svc:5000", RotationPeriod: metav1.Duration{Duration: 24 * time.Hour},
		}}}
		clock = clocktesting.NewFakeClock(time.Now())
	})

	newNamespace := func(suffix string) string {
		GinkgoHelper()
		namespace := cache + "-" + suffix
		Expect(admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})).To(Succeed())
		return namespace
	}
	get := func(namespace, name string) (*corev1.Secret, error) {
		found := &corev1.Secret{}
		return found, admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, found)
	}
	// passwordIn returns the password in a namespace, empty if there is none.
	passwordIn := func(namespace string) string {
		found, err := get(namespace, cache+".builder")
		if err != nil {
			return ""
		}
		return string(found.Data["password"])
	}
	// hashes returns what the servers accept from an account, and false if there is no Secret for them.
	hashes := func() ([]config.PasswordHash, bool) {
		found, err := get("kube-system", cache+"-accounts")
		if apierrors.IsNotFound(err) {
			return nil, false
		}
		Expect(err).NotTo(HaveOccurred())
		accounts, err := config.ParseAccounts(found.Data["accounts.json"])
		if err != nil {
			return nil, false // Somebody has changed it.
		}
		Expect(accounts.Accounts).To(ContainElement(HaveField("Username()", "larder.builder")))
		i := slices.IndexFunc(accounts.Accounts, func(account config.Account) bool { return account.Username() == "larder.builder" })
		return slices.DeleteFunc(accounts.Accounts[i].Passwords, func(hash config.PasswordHash) bool {
			return hash.NotAfter != nil && !clock.Now().Before(*hash.NotAfter)
		}), true
	}
	contains := func(all []config.PasswordHash, password string) bool {
		return slices.ContainsFunc(all, func(hash config.PasswordHash) bool { return hash.SHA256 == config.HashPassword(password, nil).SHA256 })
	}
	// accepts reports whether the servers accept a password, refuses whether they have a Secret and do not.
	accepts := func(password string) bool {
		all, _ := hashes()
		return contains(all, password)
	}
	refuses := func(password string) bool {
		all, ok := hashes()
		return ok && len(all) > 0 && !contains(all, password)
	}
	accepted := func() int {
		all, _ := hashes()
		return len(all)
	}
	start := func() (stop func()) {
		GinkgoHelper()
		kept = newKeeper()
		kept.Clock = clock
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- kept.Run(ctx) }()
		stop = func() {
			GinkgoHelper()
			cancel()
			Expect(<-ended).To(Succeed())
		}
		return stop
	}
	// step lets time pass until a condition is met.
	step := func(condition func() bool) {
		GinkgoHelper()
		Eventually(func() bool {
			clock.Step(time.Minute)
			return condition()
		}).WithPolling(50 * time.Millisecond).Should(BeTrue())
	}
	settled := func() bool {
		encoded, err := feed.Encode()
		Expect(err).NotTo(HaveOccurred())
		return kept.Report().Done(pullsecret.Digest(encoded))
	}

	It("get Secrets with a password that servers have before", func() {
		ci, scan, other := newNamespace("ci"), newNamespace("scan"), newNamespace("other")
		deployFeed(feed)
		defer start()()
		Eventually(func() int {
			clock.Step(2 * time.Second) // The API server may not know the policy that permits it yet.
			return accepted()
		}).WithPolling(50 * time.Millisecond).Should(Equal(1))
		Consistently(func() string { return passwordIn(ci) }).WithTimeout(time.Second).Should(BeEmpty())
		Expect(kept.Report().Secrets).To(ConsistOf(And(HaveField("Name", cache+".builder"), HaveField("Pending", true))))
		step(func() bool { return passwordIn(ci) != "" })
		Eventually(func() string { return passwordIn(scan) }).Should(Equal(passwordIn(ci)))
		Expect(accepts(passwordIn(ci))).To(BeTrue())
		Expect(passwordIn(other)).To(BeEmpty())
		Eventually(func() []pullsecret.SecretReport { return kept.Report().Secrets }).Should(BeEmpty())

		found, err := get(ci, cache+".builder")
		Expect(err).NotTo(HaveOccurred())
		Expect(found.Type).To(Equal(corev1.SecretTypeDockerConfigJson))
		Expect(found.Data).To(And(HaveKeyWithValue("registry", []byte(cache+".kube-system.svc:5000")), HaveKeyWithValue("ca.crt", []byte("example CA")), HaveKeyWithValue("username", []byte("larder.builder"))))
		Expect(pullsecret.DecodeAuths(found.Data[corev1.DockerConfigJsonKey])).To(HaveKeyWithValue(cache+".kube-system.svc:5000", []byte("larder.builder:"+passwordIn(ci))))

		By("Let Kubernetes collect both with their owners")
		Expect(found.OwnerReferences).To(ConsistOf(HaveField("Name", pullsecret.OwnerName(cache+".builder"))))
		stored, err := get("kube-system", cache+"-accounts")
		Expect(err).NotTo(HaveOccurred())
		role := &rbacv1.Role{}
		Expect(admin.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: cache + "-accounts"}, role)).To(Succeed())
		Expect(stored.OwnerReferences).To(ConsistOf(metav1.OwnerReference{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role", Name: role.Name, UID: role.UID}))
		Expect(string(stored.Data["accounts.json"])).NotTo(ContainSubstring(passwordIn(ci)))
	})

	It("rotate their passwords without a moment in which clients have one that is not accepted", func() {
		ci, scan := newNamespace("ci"), newNamespace("scan")
		deployFeed(feed)
		defer start()()
		step(func() bool { return passwordIn(ci) != "" && passwordIn(scan) != "" })
		first := passwordIn(ci)
		clock.Step(24 * time.Hour)
		step(func() bool {
			for _, namespace := range []string{ci, scan} {
				password := passwordIn(namespace)
				Expect(accepts(password)).To(BeTrue())
			}
			return passwordIn(ci) != first && passwordIn(scan) != first
		})
		Expect(accepts(first)).To(BeTrue(), "pods that mount it get the new one later")
		step(func() bool { return refuses(first) })
		Expect(accepts(passwordIn(ci))).To(BeTrue())
		step(func() bool { return accepted() == 1 })
	})

	It("keep their passwords when the controller is restarted", func() {
		ci := newNamespace("ci")
		deployFeed(feed)
		stop := start()
		step(func() bool { return passwordIn(ci) != "" })
		first := passwordIn(ci)
		stop()
		Expect(admin.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ci, Name: cache + ".builder"}})).To(Succeed())
		defer start()()
		Eventually(func() string { return passwordIn(ci) }).Should(Equal(first))
		Expect(accepted()).To(Equal(1))
	})

	It("are repaired", func() {
		ci := newNamespace("ci")
		deployFeed(feed)
		defer start()()
		step(func() bool { return passwordIn(ci) != "" })
		first := passwordIn(ci)

		By("Change the Secret of a namespace")
		found, err := get(ci, cache+".builder")
		Expect(err).NotTo(HaveOccurred())
		found.Data["ca.crt"], found.Data["theirs"] = []byte("x"), []byte("y")
		Expect(admin.Update(ctx, found)).To(Succeed())
		Eventually(func() map[string][]byte {
			found, _ := get(ci, cache+".builder")
			return found.Data
		}).Should(And(HaveKeyWithValue("ca.crt", []byte("example CA")), HaveKeyWithValue("theirs", []byte("y"))))

		By("Delete the Secret of the servers")
		Expect(admin.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: cache + "-accounts"}})).To(Succeed())
		step(func() bool { return accepts(first) })
		Expect(passwordIn(ci)).To(Equal(first))

		By("Remove the state, which revokes all passwords")
		stored, err := get("kube-system", cache+"-accounts")
		Expect(err).NotTo(HaveOccurred())
		delete(stored.Data, "state.json")
		Expect(admin.Update(ctx, stored)).To(Succeed())
		step(func() bool { return refuses(first) })
		step(func() bool { return passwordIn(ci) != first && accepts(passwordIn(ci)) })
	})

	It("do not touch Secrets of somebody else, and report them", func() {
		ci := newNamespace("ci")
		for _, key := range []client.ObjectKey{{Namespace: ci, Name: cache + ".builder"}, {Namespace: "kube-system", Name: cache + "-accounts"}} {
			Expect(admin.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: map[string][]byte{"mine": []byte("x")}})).To(Succeed())
		}
		deployFeed(feed)
		defer start()()
		Eventually(func() []pullsecret.SecretReport { return kept.Report().Secrets }).Should(ConsistOf(And(
			HaveField("Foreign", pullsecret.Namespaces{Listed: []string{ci}, Count: 1}),
			HaveField("Storage", "Secret kube-system/"+cache+"-accounts: NotOwned"),
		)))
		for range 5 {
			clock.Step(time.Minute)
			time.Sleep(100 * time.Millisecond)
		}
		for _, key := range []client.ObjectKey{{Namespace: ci, Name: cache + ".builder"}, {Namespace: "kube-system", Name: cache + "-accounts"}} {
			found, err := get(key.Namespace, key.Name)
			Expect(err).NotTo(HaveOccurred())
			Expect(found.Data).To(Equal(map[string][]byte{"mine": []byte("x")}))
		}
	})

	It("are removed from a namespace, and refuse the password that it knows minutes later", func() {
		ci, scan := newNamespace("ci"), newNamespace("scan")
		deployFeed(feed)
		defer start()()
		step(func() bool { return passwordIn(ci) != "" && passwordIn(scan) != "" })
		first := passwordIn(ci)
		feed.Accounts[0].Namespaces = []string{ci}
		deployFeed(feed)
		Eventually(func() bool {
			_, err := get(scan, cache+".builder")
			return apierrors.IsNotFound(err)
		}).Should(BeTrue())
		step(func() bool { return passwordIn(ci) != first && accepts(passwordIn(ci)) })
		all, _ := hashes()
		for _, hash := range all {
			if contains([]config.PasswordHash{hash}, first) {
				Expect(hash.NotAfter).To(HaveValue(BeTemporally("<=", clock.Now().Add(5*time.Minute))))
			}
		}
		step(func() bool { return refuses(first) })
	})

	It("change their repositories, and go, without new passwords for the others", func() {
		ci := newNamespace("ci")
		deployFeed(feed)
		defer start()()
		step(func() bool { return passwordIn(ci) != "" })
		first := passwordIn(ci)
		feed.Accounts[0].Repositories = nil
		feed.Accounts = append(feed.Accounts, pullsecret.Account{
			Cache: cache, Name: "scanner", SecretName: cache + ".scanner", Namespaces: []string{ci}, Registry: cache + ".kube-system.svc:5000",
		})
		deployFeed(feed)
		accounts := func() []config.Account {
			found, err := get("kube-system", cache+"-accounts")
			Expect(err).NotTo(HaveOccurred())
			parsed, err := config.ParseAccounts(found.Data["accounts.json"])
			Expect(err).NotTo(HaveOccurred())
			return parsed.Accounts
		}
		Eventually(accounts).Should(ConsistOf(And(HaveField("Name", "builder"), HaveField("Repositories", []string{"*"})), HaveField("Name", "scanner")))
		feed.Accounts = feed.Accounts[:1]
		deployFeed(feed)
		Eventually(accounts).Should(ConsistOf(HaveField("Name", "builder")))
		Eventually(settled).Should(BeTrue())
		Expect(passwordIn(ci)).To(Equal(first))
		Expect(accepts(first)).To(BeTrue())
	})

	It("give the controller no permission for other Secrets", func() {
		deployFeed(feed)
		restricted, err := kubernetes.NewForConfig(restrictedConfig())
		Expect(err).NotTo(HaveOccurred())
		for _, secret := range []*corev1.Secret{
			{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: cache + "-accounts"}, Type: corev1.SecretTypeOpaque},
			{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: cache + "-other"}, Type: corev1.SecretTypeOpaque},
			{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: cache + "-accounts", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}}, Type: corev1.SecretTypeServiceAccountToken},
		} {
			Eventually(func() bool {
				_, err := restricted.CoreV1().Secrets(secret.Namespace).Create(ctx, secret, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				return apierrors.IsForbidden(err) || apierrors.IsInvalid(err)
			}).Should(BeTrue(), secret.Name)
		}
		_, err = restricted.CoreV1().Secrets("default").Get(ctx, cache+"-accounts", metav1.GetOptions{})
		Expect(apierrors.IsForbidden(err)).To(BeTrue())
	})
})
