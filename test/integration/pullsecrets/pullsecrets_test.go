// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecrets_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/larder-project/larder/pkg/component/pullsecrets"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/pkg/pullsecret/keeper"
	"github.com/larder-project/larder/test/cloudsim"
	"github.com/larder-project/larder/test/integration/suite"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

var (
	alice = credentials.Static(credentials.Credential{Username: "alice", Password: "secret"})
	bob   = credentials.Static(credentials.Credential{Username: "bob", Password: "secret:too"})
)

var number atomic.Int32

// The controller runs with the token of its ServiceAccount, so each test shows that its permissions suffice.
var _ = Describe("Pull secrets", Ordered, func() {
	var (
		name   string // of the pull secret and prefix of the namespaces
		secret pullsecret.Secret
		kept   *keeper.Keeper
	)

	BeforeEach(func() {
		name = fmt.Sprintf("pulls-%d", number.Add(1))
		secret = pullsecret.Secret{
			Name:              name,
			Namespaces:        []string{name + "-listed"},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"pulls": name}},
			Registries: []pullsecret.Registry{{
				Upstream: "registry.example.com", Host: "registry.example.com",
				Credentials: []pullsecret.Credential{{Name: "first", Material: &alice}},
			}},
		}
	})

	newNamespace := func(suffix string, labels map[string]string) string {
		GinkgoHelper()
		namespace := name + "-" + suffix
		Expect(admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: labels}})).To(Succeed())
		return namespace
	}
	newAccount := func(namespace string, references ...string) {
		GinkgoHelper()
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace}}
		for _, reference := range references {
			account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: reference})
		}
		Expect(admin.Create(ctx, account)).To(Succeed())
	}
	referencesOf := func(namespace string) []string {
		GinkgoHelper()
		account := &corev1.ServiceAccount{}
		Expect(admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "default"}, account)).To(Succeed())
		var names []string
		for _, reference := range account.ImagePullSecrets {
			names = append(names, reference.Name)
		}
		return names
	}
	get := func(namespace string) (*corev1.Secret, error) {
		found := &corev1.Secret{}
		return found, admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, found)
	}
	auths := func(namespace string) func() map[string]string {
		return func() map[string]string {
			found, err := get(namespace)
			if err != nil {
				return nil
			}
			texts := map[string]string{}
			for key, auth := range pullsecret.DecodeAuths(found.Data[corev1.DockerConfigJsonKey]) {
				texts[key] = string(auth)
			}
			return texts
		}
	}
	missing := func(namespace string) func() bool {
		return func() bool {
			_, err := get(namespace)
			return apierrors.IsNotFound(err)
		}
	}

	deploy := func(secrets ...pullsecret.Secret) {
		GinkgoHelper()
		deployFeed(pullsecret.Feed{Secrets: secrets})
	}
	start := func() {
		GinkgoHelper()
		kept = newKeeper()
		suite.Background("keeper", kept.Run)
	}
	settled := func(secrets ...pullsecret.Secret) func() bool {
		encoded, err := pullsecret.Feed{Secrets: secrets}.Encode()
		Expect(err).NotTo(HaveOccurred())
		return func() bool { return kept.Report().Done(pullsecret.Digest(encoded)) }
	}
	whole := map[string]string{"registry.example.com": "alice:secret"}

	It("keeps a pull secret in listed and selected namespaces, and in those made later", func() {
		listed := newNamespace("listed", nil)
		selected := newNamespace("selected", map[string]string{"pulls": name})
		other := newNamespace("other", nil)
		deploy(secret)
		start()
		for _, namespace := range []string{listed, selected} {
			Eventually(auths(namespace)).Should(Equal(whole))
		}
		later := newNamespace("later", map[string]string{"pulls": name})
		Eventually(auths(later)).WithTimeout(10 * time.Second).Should(Equal(whole))
		Eventually(settled(secret)).Should(BeTrue())
		Expect(missing(other)()).To(BeTrue())

		By("Let Kubernetes collect it with a cluster-scoped owner")
		found, err := get(listed)
		Expect(err).NotTo(HaveOccurred())
		owner := &rbacv1.ClusterRole{}
		Expect(admin.Get(ctx, client.ObjectKey{Name: pullsecret.OwnerName(name)}, owner)).To(Succeed())
		Expect(found.Type).To(Equal(corev1.SecretTypeDockerConfigJson))
		Expect(found.OwnerReferences).To(ConsistOf(metav1.OwnerReference{
			APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: owner.Name, UID: owner.UID,
		}))
	})

	It("follows labels of namespaces and changes of the selection", func() {
		namespace := newNamespace("labelled", nil)
		listed := newNamespace("listed", nil)
		deploy(secret)
		start()
		Eventually(auths(listed)).Should(Equal(whole))

		By("Add and remove the label")
		label := func(labels map[string]string) {
			object := &corev1.Namespace{}
			Expect(admin.Get(ctx, client.ObjectKey{Name: namespace}, object)).To(Succeed())
			object.Labels = labels
			Expect(admin.Update(ctx, object)).To(Succeed())
		}
		label(map[string]string{"pulls": name})
		Eventually(auths(namespace)).Should(Equal(whole))
		label(nil)
		Eventually(missing(namespace)).Should(BeTrue())

		By("Select all namespaces, and then only one")
		all := secret
		all.Namespaces, all.NamespaceSelector = nil, &metav1.LabelSelector{}
		deploy(all)
		Eventually(auths(namespace)).Should(Equal(whole))
		Eventually(auths("default")).Should(Equal(whole))
		one := secret
		one.NamespaceSelector = nil
		deploy(one)
		Eventually(missing(namespace)).Should(BeTrue())
		Eventually(missing("default")).Should(BeTrue())
		Expect(auths(listed)()).To(Equal(whole))
	})

	It("follows a rotation without a moment without the pull secret", func() {
		listed := newNamespace("listed", nil)
		deploy(secret)
		start()
		Eventually(auths(listed)).Should(Equal(whole))
		before, err := get(listed)
		Expect(err).NotTo(HaveOccurred())
		secret.Registries[0].Credentials[0] = pullsecret.Credential{Name: "second", Material: &bob}
		deploy(secret)
		Eventually(auths(listed)).Should(Equal(map[string]string{"registry.example.com": "bob:secret:too"}))
		after, err := get(listed)
		Expect(err).NotTo(HaveOccurred())
		Expect(after.UID).To(Equal(before.UID))
	})

	It("repairs a pull secret that was changed", func() {
		listed := newNamespace("listed", nil)
		deploy(secret)
		start()
		Eventually(auths(listed)).Should(Equal(whole))

		By("Change its content; keep what others add")
		found, err := get(listed)
		Expect(err).NotTo(HaveOccurred())
		found.Data[corev1.DockerConfigJsonKey] = []byte(`{"auths":{}}`)
		found.Labels["team"] = "a"
		Expect(admin.Update(ctx, found)).To(Succeed())
		Eventually(auths(listed)).Should(Equal(whole))
		found, err = get(listed)
		Expect(err).NotTo(HaveOccurred())
		Expect(found.Labels).To(HaveKeyWithValue("team", "a"))

		By("Remove its owner")
		found.OwnerReferences = nil
		Expect(admin.Update(ctx, found)).To(Succeed())
		Eventually(func() int {
			found, _ := get(listed)
			return len(found.OwnerReferences)
		}).Should(Equal(1))

		By("Make it immutable")
		found, err = get(listed)
		Expect(err).NotTo(HaveOccurred())
		found.Immutable = new(true)
		Expect(admin.Update(ctx, found)).To(Succeed())
		Eventually(func() bool {
			replaced, err := get(listed)
			return err == nil && replaced.UID != found.UID && replaced.Immutable == nil
		}).Should(BeTrue())
		Expect(auths(listed)()).To(Equal(whole))

		By("Delete it")
		found, err = get(listed)
		Expect(err).NotTo(HaveOccurred())
		Expect(admin.Delete(ctx, found)).To(Succeed())
		Eventually(auths(listed)).Should(Equal(whole))
	})

	It("does not touch a Secret of somebody else, and reports it", func() {
		listed := newNamespace("listed", nil)
		newAccount(listed)
		foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: listed}, Data: map[string][]byte{"mine": []byte("x")}}
		Expect(admin.Create(ctx, foreign)).To(Succeed())
		secret.AddToDefaultServiceAccounts = true
		deploy(secret)
		start()
		Eventually(func() []pullsecret.SecretReport { return kept.Report().Secrets }).Should(ConsistOf(
			HaveField("Foreign", pullsecret.Namespaces{Listed: []string{listed}, Count: 1})))
		Eventually(settled(secret)).Should(BeTrue())
		Eventually(func() []string {
			list := &eventsv1.EventList{}
			Expect(admin.List(ctx, list, client.InNamespace(listed))).To(Succeed())
			var reasons []string
			for _, event := range list.Items {
				reasons = append(reasons, event.Reason+" "+event.Regarding.Kind+" "+event.Regarding.Name)
			}
			return reasons
		}).Should(ConsistOf("ForeignSecret Secret " + name))

		By("Leave it when the pull secret is no longer wanted there")
		secret.Namespaces = []string{name + "-elsewhere"}
		deploy(secret)
		Eventually(settled(secret)).Should(BeTrue())
		found, err := get(listed)
		Expect(err).NotTo(HaveOccurred())
		Expect(found.ResourceVersion).To(Equal(foreign.ResourceVersion))
		Expect(referencesOf(listed)).To(BeEmpty())
		Expect(kept.Report().Secrets).To(BeEmpty())

		By("Take its place after its owner has deleted it")
		secret.Namespaces = []string{listed}
		deploy(secret)
		Eventually(func() []pullsecret.SecretReport { return kept.Report().Secrets }).ShouldNot(BeEmpty())
		Expect(admin.Delete(ctx, foreign)).To(Succeed())
		Eventually(auths(listed)).Should(Equal(whole))
		Eventually(func() []string { return referencesOf(listed) }).Should(Equal([]string{name}))
		Eventually(func() []pullsecret.SecretReport { return kept.Report().Secrets }).Should(BeEmpty())
	})

	It("does not take a copy in another namespace for its own", func() {
		listed := newNamespace("listed", nil)
		other := newNamespace("other", nil)
		deploy(secret)
		start()
		Eventually(auths(listed)).Should(Equal(whole))
		found, err := get(listed)
		Expect(err).NotTo(HaveOccurred())
		duplicate := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: other, Labels: found.Labels, OwnerReferences: found.OwnerReferences},
			Type:       found.Type, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte("{}")},
		}
		Expect(admin.Create(ctx, duplicate)).To(Succeed())
		unchanged := func() string {
			present, err := get(other)
			Expect(err).NotTo(HaveOccurred())
			return present.ResourceVersion
		}
		Consistently(unchanged).WithTimeout(2 * time.Second).Should(Equal(duplicate.ResourceVersion))

		By("Report it where the pull secret is wanted")
		secret.Namespaces = append(secret.Namespaces, other)
		deploy(secret)
		Eventually(func() []pullsecret.SecretReport { return kept.Report().Secrets }).Should(ConsistOf(
			HaveField("Foreign", pullsecret.Namespaces{Listed: []string{other}, Count: 1})))
		Expect(unchanged()).To(Equal(duplicate.ResourceVersion))
	})

	It("adds and removes only its own references in default ServiceAccounts", func() {
		listed := newNamespace("listed", nil)
		selected := newNamespace("selected", map[string]string{"pulls": name})
		newAccount(listed, "theirs")
		newAccount(selected, name) // An owner has added it before.
		secret.AddToDefaultServiceAccounts = true
		deploy(secret)
		start()
		Eventually(func() []string { return referencesOf(listed) }).Should(ConsistOf("theirs", name))

		By("Add it to a ServiceAccount that is made later, and again where it was removed")
		later := newNamespace("later", map[string]string{"pulls": name})
		newAccount(later)
		Eventually(func() []string { return referencesOf(later) }).Should(ConsistOf(name))
		account := &corev1.ServiceAccount{}
		Expect(admin.Get(ctx, client.ObjectKey{Namespace: later, Name: "default"}, account)).To(Succeed())
		account.ImagePullSecrets = nil
		Expect(admin.Update(ctx, account)).To(Succeed())
		Eventually(func() []string { return referencesOf(later) }).Should(ConsistOf(name))

		By("Remove it")
		deploy()
		Eventually(settled()).Should(BeTrue())
		Expect(referencesOf(listed)).To(ConsistOf("theirs"))
		Expect(referencesOf(later)).To(BeEmpty())
		Expect(referencesOf(selected)).To(ConsistOf(name))
		Expect(admin.Get(ctx, client.ObjectKey{Namespace: listed, Name: "default"}, account)).To(Succeed())
		Expect(account.Annotations).To(BeEmpty())
	})

	It("keeps what pods have until a credential is accepted, also after a restart", func() {
		listed := newNamespace("listed", nil)
		deploy(secret)
		ctx, stop := context.WithCancel(ctx)
		kept = newKeeper()
		ended := make(chan error)
		go func() { ended <- kept.Run(ctx) }()
		Eventually(auths(listed)).Should(Equal(whole))
		stop()
		Expect(<-ended).To(Succeed())

		secret.Registries[0].Credentials = []pullsecret.Credential{{Name: "second"}, {Repositories: []string{"team-a"}, Name: "third", Material: &bob}}
		deploy(secret)
		start()
		Eventually(auths(listed)).Should(Equal(map[string]string{"registry.example.com": "alice:secret", "registry.example.com/team-a": "bob:secret:too"}))
	})

	It("does not create a pull secret without a credential", func() {
		listed := newNamespace("listed", nil)
		secret.Registries[0].Credentials[0].Material = nil
		deploy(secret)
		start()
		Eventually(settled(secret)).Should(BeTrue())
		Expect(missing(listed)()).To(BeTrue())
	})

	It("merges the credentials of several registries", func() {
		listed := newNamespace("listed", nil)
		secret.Registries = append(secret.Registries, pullsecret.Registry{
			Upstream: "docker.io", Host: "registry-1.docker.io", Credentials: []pullsecret.Credential{{Name: "hub", Material: &bob}},
		})
		deploy(secret)
		start()
		Eventually(func() []string { return slices.Sorted(maps.Keys(auths(listed)())) }).Should(Equal(
			[]string{"docker.io", "https://index.docker.io/v1/", "registry.example.com"}))
	})

	It("writes nothing while nothing changes", func() {
		listed := newNamespace("listed", nil)
		newAccount(listed)
		secret.AddToDefaultServiceAccounts = true
		deploy(secret)
		start()
		Eventually(settled(secret)).Should(BeTrue())
		Eventually(func() []string { return referencesOf(listed) }).Should(ConsistOf(name))
		before, err := get(listed)
		Expect(err).NotTo(HaveOccurred())
		deploy(secret)
		label := &corev1.Namespace{}
		Expect(admin.Get(ctx, client.ObjectKey{Name: listed}, label)).To(Succeed())
		label.Labels["touched"] = "true"
		Expect(admin.Update(ctx, label)).To(Succeed())
		Consistently(func() string {
			after, err := get(listed)
			Expect(err).NotTo(HaveOccurred())
			return after.ResourceVersion
		}).WithTimeout(2 * time.Second).Should(Equal(before.ResourceVersion))
	})

	Describe("from credentials that are issued", func() {
		const (
			host  = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
			keyID = "AKIA0123456789ABCDEF"
		)
		var (
			cloud  *cloudsim.Cloud
			listed string
		)

		startCloud := func(lifetime time.Duration) {
			GinkgoHelper()
			authority, err := pki.NewAuthority("cloud")
			Expect(err).NotTo(HaveOccurred())
			cloud, err = cloudsim.Start(cloudsim.Options{Authority: authority, Lifetime: lifetime})
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(cloud.Close)
			cloud.AddKey(keyID, "secretaccesskey", "")
			listed = newNamespace("listed", nil)
			secret.Registries = []pullsecret.Registry{{
				Upstream: host, Host: host,
				Connection:  pullsecret.Connection{HTTPSProxy: cloud.ProxyURL(), CABundle: string(authority.Certificate)},
				Credentials: []pullsecret.Credential{{Name: "keys", Material: &credentials.Material{AWS: credentials.AWSKeys{AccessKeyID: keyID, SecretAccessKey: "secretaccesskey"}}}},
			}}
		}
		// isValid reports whether a pull secret has a password that the cloud accepts now.
		isValid := func(namespace string) func() bool {
			return func() bool {
				present := auths(namespace)()[host]
				return slices.ContainsFunc(cloud.Accounts(), func(account upstreamsim.Account) bool { return present == account.Username+":"+account.Password })
			}
		}

		It("has tokens that are renewed before they expire", func() {
			startCloud(4 * time.Second)
			deploy(secret)
			start()
			Eventually(isValid(listed)).Should(BeTrue())
			first := auths(listed)()[host]
			Consistently(isValid(listed)).WithTimeout(10 * time.Second).Should(BeTrue())
			Expect(auths(listed)()[host]).NotTo(Equal(first))
			Expect(kept.Report().Secrets).To(BeEmpty())
		})

		It("reports material that is not for the registry", func() {
			startCloud(time.Hour)
			secret.Registries[0].Host = "registry.example.com"
			deploy(secret)
			start()
			Eventually(func() []pullsecret.SecretReport { return kept.Report().Secrets }).Should(ConsistOf(HaveField("Credential", ContainSubstring(host+": "))))
			Expect(missing(listed)()).To(BeTrue())
		})

		It("keeps the last token while the cloud does not respond, and reports it", func() {
			startCloud(time.Hour)
			deploy(secret)
			ctx, stop := context.WithCancel(ctx)
			kept = newKeeper()
			ended := make(chan error)
			go func() { ended <- kept.Run(ctx) }()
			Eventually(isValid(listed)).Should(BeTrue())
			first := auths(listed)()
			stop()
			Expect(<-ended).To(Succeed())

			cloud.Fail(cloudsim.GetToken, cloudsim.Failure{Status: 500})
			start()
			Eventually(func() []pullsecret.SecretReport { return kept.Report().Secrets }).Should(ConsistOf(HaveField("Credential", ContainSubstring(host))))
			later := newNamespace("later", map[string]string{"pulls": name})
			Eventually(func() int { return kept.Report().Outstanding + kept.Report().Unissued }).Should(BeZero())
			Expect(settled(secret)()).To(BeFalse())
			Expect(auths(listed)()).To(Equal(first))
			Expect(missing(later)()).To(BeTrue())
		})
	})

	It("has no permission for anything else", func() {
		deploy(secret)
		restricted, err := kubernetes.NewForConfig(restrictedConfig())
		Expect(err).NotTo(HaveOccurred())
		_, err = restricted.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{})
		Expect(apierrors.IsForbidden(err)).To(BeTrue())
		_, err = restricted.CoreV1().Secrets("kube-system").Get(ctx, "other", metav1.GetOptions{})
		Expect(apierrors.IsForbidden(err)).To(BeTrue())
		err = restricted.CoreV1().Secrets("kube-system").Delete(ctx, pullsecret.FeedName, metav1.DeleteOptions{})
		Expect(apierrors.IsForbidden(err)).To(BeTrue())
		_, err = restricted.CoreV1().ServiceAccounts("kube-system").Patch(ctx, "other", "application/merge-patch+json", []byte("{}"), metav1.PatchOptions{})
		Expect(apierrors.IsForbidden(err)).To(BeTrue())
		_, err = restricted.RbacV1().ClusterRoles().Get(ctx, "cluster-admin", metav1.GetOptions{})
		Expect(apierrors.IsForbidden(err)).To(BeTrue())

		By("Create Secrets of another name or type")
		create := func(secret *corev1.Secret) error {
			_, err := restricted.CoreV1().Secrets("default").Create(ctx, secret, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		}
		config := map[string][]byte{corev1.DockerConfigJsonKey: []byte("{}")}
		pull := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeDockerConfigJson, Data: config}
		Eventually(create).WithArguments(pull).Should(Succeed())
		other := pull.DeepCopy()
		other.Name = "other"
		Eventually(create).WithArguments(other).Should(MatchError(ContainSubstring("may only write these")))
		token := pull.DeepCopy()
		token.Type, token.Data = corev1.SecretTypeServiceAccountToken, nil
		token.Annotations = map[string]string{corev1.ServiceAccountNameKey: "default"}
		Expect(create(token)).To(MatchError(ContainSubstring("may only write these")))
	})
})

// restrictedConfig returns how the controller connects: with the token of its ServiceAccount.
func restrictedConfig() *rest.Config {
	GinkgoHelper()
	clientset, err := kubernetes.NewForConfig(server)
	Expect(err).NotTo(HaveOccurred())
	token, err := clientset.CoreV1().ServiceAccounts(pullsecret.Namespace).CreateToken(ctx, pullsecrets.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	config := rest.AnonymousClientConfig(server)
	config.BearerToken = token.Status.Token
	return config
}

func newKeeper() *keeper.Keeper {
	GinkgoHelper()
	clientset, err := kubernetes.NewForConfig(restrictedConfig())
	Expect(err).NotTo(HaveOccurred())
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: clientset.EventsV1()})
	Expect(broadcaster.StartRecordingToSinkWithContext(ctx)).To(Succeed())
	DeferCleanup(broadcaster.Shutdown)
	return &keeper.Keeper{
		Client: clientset, Recorder: broadcaster.NewRecorder(scheme.Scheme, "registry-cache-pull-secrets"), Clock: clock.RealClock{},
		Log: logf.Log.WithName("keeper"),
	}
}

// deployFeed deploys the objects of the controller without its pod.
func deployFeed(feed pullsecret.Feed) {
	GinkgoHelper()
	objects, err := pullsecrets.Objects(pullsecrets.Values{Feed: feed})
	Expect(err).NotTo(HaveOccurred())
	for _, object := range objects {
		switch object.(type) {
		case *corev1.Secret, *corev1.ServiceAccount, *rbacv1.Role, *rbacv1.RoleBinding, *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding,
			*admissionregistrationv1.ValidatingAdmissionPolicy, *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
			present := object.DeepCopyObject().(client.Object)
			if err := admin.Get(ctx, client.ObjectKeyFromObject(object), present); err == nil {
				object.SetResourceVersion(present.GetResourceVersion())
				Expect(admin.Update(ctx, object)).To(Succeed())
			} else {
				Expect(admin.Create(ctx, object)).To(Succeed())
			}
		}
	}
}
