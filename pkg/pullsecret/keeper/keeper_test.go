// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/pullsecret"
)

// These tests are about failures of the API server; test/integration/pullsecrets has all others.
var _ = Describe("Keeper", func() {
	var material = credentials.Static(credentials.Credential{Username: "alice", Password: "secret"})

	namespace := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)}}
	}
	secretNamed := func(name string, references bool) pullsecret.Secret {
		return pullsecret.Secret{
			Name: name, NamespaceSelector: &metav1.LabelSelector{}, AddToDefaultServiceAccounts: references,
			Registries: []pullsecret.Registry{{
				Upstream: "registry.example.com", Host: "registry.example.com",
				Credentials: []pullsecret.Credential{{Name: "first", Material: &material}},
			}},
		}
	}
	owner := func(name string) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: pullsecret.OwnerName(name), UID: "uid"}}
	}
	account := func(namespace string, references ...string) *corev1.ServiceAccount {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: pullsecret.DefaultServiceAccount, Namespace: namespace}}
		for _, name := range references {
			account.Annotations = map[string]string{pullsecret.ReferencesAnnotation: name}
			account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
		}
		return account
	}
	// start starts a Keeper for a feed, and returns its client and whether it is done with the feed.
	start := func(feed pullsecret.Feed, objects ...runtime.Object) (*Keeper, *fake.Clientset, func() bool) {
		GinkgoHelper()
		encoded, err := feed.Encode()
		Expect(err).NotTo(HaveOccurred())
		client := fake.NewClientset(append(objects, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: pullsecret.FeedName, Namespace: pullsecret.Namespace},
			Data:       map[string][]byte{pullsecret.FeedKey: encoded},
		})...)
		k := &Keeper{Client: client, Recorder: events.NewFakeRecorder(100), Clock: clock.RealClock{}, Log: logr.Discard()}
		return k, client, func() bool { return k.Report().Done(pullsecret.Digest(encoded)) }
	}
	run := func(k *Keeper) {
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		DeferCleanup(func() {
			stop()
			Eventually(ended).Should(Receive(BeNil()))
		})
	}
	// failPatches makes patches of a resource fail until the returned value is true.
	failPatches := func(client *fake.Clientset, resource string, err error) *atomic.Bool {
		repaired := &atomic.Bool{}
		client.PrependReactor("patch", resource, func(k8stesting.Action) (bool, runtime.Object, error) {
			return !repaired.Load(), nil, err
		})
		return repaired
	}
	conflict := apierrors.NewConflict(corev1.Resource("serviceaccounts"), pullsecret.DefaultServiceAccount, errors.New("changed"))

	DescribeTable("is not done while a reference cannot be removed", func(err error, reported int) {
		k, client, done := start(pullsecret.Feed{}, namespace("a"), account("a", "pulls"))
		repaired := failPatches(client, "serviceaccounts", err)
		run(k)
		Eventually(func() []k8stesting.Action { return client.Actions() }).Should(ContainElement(HaveField("GetVerb()", "patch")))
		Consistently(done).WithTimeout(500 * time.Millisecond).Should(BeFalse())
		Expect(k.Report().References.Count).To(Equal(reported))

		repaired.Store(true)
		Eventually(done).WithTimeout(5 * time.Second).Should(BeTrue())
		Expect(k.Report().References.Count).To(BeZero())
	},
		Entry("because the ServiceAccount changes all the time", conflict, 0),
		Entry("because the API server refuses it", apierrors.NewForbidden(corev1.Resource("serviceaccounts"), "default", errors.New("webhook")), 1),
	)

	It("reports a reference that cannot be added for its pull secret only", func() {
		k, client, done := start(pullsecret.Feed{Secrets: []pullsecret.Secret{secretNamed("other", false), secretNamed("pulls", true)}},
			namespace("a"), account("a", "old"), owner("other"), owner("pulls"))
		failPatches(client, "serviceaccounts", apierrors.NewInternalError(errors.New("broken")))
		run(k)
		Eventually(func() []pullsecret.SecretReport { return k.Report().Secrets }).Should(ConsistOf(pullsecret.SecretReport{
			Name: "pulls", Unreferenced: pullsecret.Namespaces{Listed: []string{"a"}, Count: 1},
		}))
		Expect(done()).To(BeFalse())
		Expect(k.Report().ReferencesReason).To(Equal("InternalError"))
	})

	It("does not report a conflict as a failure", func() {
		k, client, done := start(pullsecret.Feed{Secrets: []pullsecret.Secret{secretNamed("pulls", true)}},
			namespace("a"), account("a"), owner("pulls"))
		repaired := failPatches(client, "serviceaccounts", conflict)
		run(k)
		Eventually(func() []k8stesting.Action { return client.Actions() }).Should(ContainElement(HaveField("GetVerb()", "patch")))
		Consistently(func() []pullsecret.SecretReport { return k.Report().Secrets }).WithTimeout(500 * time.Millisecond).Should(BeEmpty())
		Expect(done()).To(BeFalse())
		repaired.Store(true)
		Eventually(done).WithTimeout(5 * time.Second).Should(BeTrue())
	})

	It("does not let a new namespace wait for all others", func() {
		const count = 100
		objects := []runtime.Object{owner("pulls")}
		for i := range count {
			objects = append(objects, namespace(fmt.Sprintf("n%d", i)))
		}
		k, client, done := start(pullsecret.Feed{Secrets: []pullsecret.Secret{secretNamed("pulls", false)}}, objects...)
		client.PrependReactor("create", "secrets", func(k8stesting.Action) (bool, runtime.Object, error) {
			time.Sleep(50 * time.Millisecond)
			return false, nil, nil
		})
		created := func() []string {
			var names []string
			for _, action := range client.Actions() {
				if create, ok := action.(k8stesting.CreateAction); ok && action.GetResource().Resource == "secrets" {
					names = append(names, create.GetNamespace())
				}
			}
			return names
		}
		run(k)
		Eventually(created).ShouldNot(BeEmpty())
		_, err := client.CoreV1().Namespaces().Create(context.Background(), namespace("new"), metav1.CreateOptions{})
		Expect(err).NotTo(HaveOccurred())
		Eventually(created).WithTimeout(10 * time.Second).Should(ContainElement("new"))
		Expect(len(created())).To(BeNumerically("<", count/2))
		Eventually(done).WithTimeout(10 * time.Second).Should(BeTrue())

		By("Reading the owner once")
		reads := slices.DeleteFunc(client.Actions(), func(action k8stesting.Action) bool {
			return action.GetVerb() != "get" || action.GetResource().Resource != "clusterroles"
		})
		Expect(len(reads)).To(BeNumerically("<=", workers))
	})

	It("lists Secrets in pages, and keeps only checksums of their content", func() {
		const pages = 3
		k, client, _ := start(pullsecret.Feed{})
		var options []metav1.ListOptions
		client.PrependReactor("list", "secrets", func(action k8stesting.Action) (bool, runtime.Object, error) {
			options = append(options, action.(k8stesting.ListActionImpl).ListOptions)
			page := &corev1.SecretList{Items: []corev1.Secret{{
				ObjectMeta: metav1.ObjectMeta{Name: "pulls", Namespace: fmt.Sprintf("n%d", len(options))},
				Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte("content"), "other": []byte("content")},
			}}}
			if len(options) < pages {
				page.Continue = "next"
			}
			return true, page, nil
		})
		listed, err := cache.ToListerWatcherWithContext(k.secretsNamed("pulls")).ListWithContext(context.Background(), metav1.ListOptions{ResourceVersion: "0"})
		Expect(err).NotTo(HaveOccurred())
		Expect(options).To(HaveLen(pages))
		Expect(options).To(HaveEach(And(HaveField("Limit", BeEquivalentTo(pageSize)), HaveField("ResourceVersion", ""), HaveField("FieldSelector", "metadata.name=pulls"))))
		secrets := listed.(*corev1.SecretList).Items
		Expect(secrets).To(HaveLen(pages))
		for _, secret := range secrets {
			Expect(slices.Collect(maps.Values(secret.Data))).To(HaveExactElements(HaveLen(sha256.Size)))
			Expect(hasContent(withoutContent(&secret), map[string][]byte{corev1.DockerConfigJsonKey: []byte("content")})).To(BeTrue())
		}
	})

	It("does not wait for renewals, but for the first attempt to issue a credential", func() {
		secret := secretNamed("pulls", false)
		secret.Registries[0].Credentials = append(secret.Registries[0].Credentials, pullsecret.Credential{
			Repositories: []string{"team-a"}, Name: "keys",
			Material: &credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: "id", SecretAccessKey: "key"}},
		})
		k, client, done := start(pullsecret.Feed{Secrets: []pullsecret.Secret{secret}}, namespace("a"), owner("pulls"))
		run(k)
		Eventually(func() []pullsecret.SecretReport { return k.Report().Secrets }).Should(HaveExactElements(HaveField("Credential", Not(BeEmpty()))), "it is not for this registry")
		Eventually(func() int { return k.Report().Outstanding + k.Report().Unissued }).Should(BeZero())
		Expect(done()).To(BeFalse())
		_, err := client.CoreV1().Secrets("a").Get(context.Background(), "pulls", metav1.GetOptions{})
		Expect(err).NotTo(HaveOccurred())

		generations := func() (current, required int64) {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.generation, k.required
		}
		_, before := generations()
		k.attempted(false)
		_, required := generations()
		Expect(required).To(Equal(before))
		k.attempted(true)
		generation, required := generations()
		Expect(required).To(Equal(generation))
		Expect(generation).To(BeNumerically(">", before))
	})
})
