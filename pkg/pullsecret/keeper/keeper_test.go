// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
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
})
