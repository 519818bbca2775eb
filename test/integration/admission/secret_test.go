// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"slices"

	controllermanagerconfigv1alpha1 "github.com/gardener/gardener/pkg/apis/config/controllermanager/v1alpha1"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	shootreference "github.com/gardener/gardener/pkg/controllermanager/controller/shoot/reference"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/larder-project/larder/test/integration/suite"
)

const (
	// finalizer is Gardener's.
	finalizer = "gardener.cloud/reference-protection"
	ecrCache  = `{"upstream":"123456789012.dkr.ecr.eu-central-1.amazonaws.com","secretReferenceName":"robot"}`
)

var _ = Describe("Secret protection", Ordered, func() {
	BeforeAll(func() {
		startReferenceController()
		shoot := newShoot(caches(privateCache), resource(newSecret()))
		Expect(create(shoot)).To(Succeed())
		// kube-apiserver may notice the webhook later than gardener-apiserver.
		Eventually(func() error { return testClient.Delete(ctx, protected(shoot), client.DryRunAll) }).Should(beProtected(shoot.Name))
	})

	It("is registered only for the deletion of Secrets and WorkloadIdentities, and fails closed for protected ones", func() {
		webhook, unmarked := registered("secret"), registered("secret-unmarked")
		ruleFor := func(group, version, resource string) admissionregistrationv1.RuleWithOperations {
			return admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Delete},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource},
					Scope: new(admissionregistrationv1.NamespacedScope),
				},
			}
		}
		for _, webhook := range []admissionregistrationv1.ValidatingWebhook{webhook, unmarked} {
			Expect(webhook.Rules).To(ConsistOf(ruleFor("", "v1", "secrets"), ruleFor("security.gardener.cloud", "v1alpha1", "workloadidentities")))
			Expect(webhook.MatchConditions).To(ContainElement(HaveField("Expression", ContainSubstring(finalizer))))
			Expect(webhook.SideEffects).To(HaveValue(Equal(admissionregistrationv1.SideEffectClassNone)))
			Expect(webhook.TimeoutSeconds).To(HaveValue(BeNumerically("<=", 10)))
			Expect(webhook.ClientConfig.CABundle).To(Equal(registered("shoot").ClientConfig.CABundle))
		}
		Expect(webhook.FailurePolicy).To(HaveValue(Equal(admissionregistrationv1.Fail)))
		Expect(unmarked.FailurePolicy).To(HaveValue(Equal(admissionregistrationv1.Ignore)))
	})

	It("follows a rotation", func() {
		shoot := newShoot(caches(`{"upstream":"docker.io"},`+privateCache), resource(newSecret()))
		Expect(create(shoot)).To(Succeed())
		v1 := protected(shoot)
		for _, option := range []client.DeleteOption{client.DryRunAll, client.GracePeriodSeconds(0), client.PropagationPolicy("Foreground")} {
			Expect(testClient.Delete(ctx, v1.DeepCopy(), option)).To(beProtected(shoot.Name, "(spec.resources[0], used in "+cachesPath+"[1].secretReferenceName)"))
		}
		Expect(testClient.Get(ctx, client.ObjectKeyFromObject(v1), v1)).To(Succeed())
		Expect(v1.DeletionTimestamp).To(BeNil())

		Expect(update(shoot, resource(newSecret()))).To(Succeed())
		Expect(testClient.Delete(ctx, protected(shoot))).To(beProtected(shoot.Name))
		released(v1)
		Expect(testClient.Delete(ctx, v1)).To(Succeed())
		Expect(testClient.Get(ctx, client.ObjectKeyFromObject(v1), v1)).To(Satisfy(apierrors.IsNotFound))
	})

	It("sees changed references at once", func() {
		shoot := newShoot(caches(privateCache), resource(newSecret()))
		Expect(create(shoot)).To(Succeed())
		// Both have Gardener's finalizer, for an entry that no cache uses.
		other := newShoot(resource(newSecret(), "unused"), resource(newSecret(), "unused-too"), caches(`{"upstream":"quay.io"}`))
		Expect(create(other)).To(Succeed())
		first, second := protected(other, 0), protected(other, 1)
		for range 20 {
			Expect(update(shoot, reference(first.Name, "Secret"))).To(Succeed())
			Expect(testClient.Delete(ctx, first.DeepCopy(), client.DryRunAll)).To(beProtected(shoot.Name))
			Expect(testClient.Delete(ctx, second.DeepCopy(), client.DryRunAll)).To(Succeed())
			first, second = second, first
		}
	})

	It("protects a WorkloadIdentity like a Secret", func() {
		identity := newIdentity()
		shoot := newShoot(caches(ecrCache), referTo(identity))
		Expect(create(shoot)).To(Succeed())
		awaitFinalizer(identity)
		Expect(testClient.Delete(ctx, identity)).To(And(beProtected(shoot.Name, "(spec.resources[0], used in "+cachesPath+"[0].secretReferenceName)"),
			MatchError(ContainSubstring("WorkloadIdentity "+identity.Name+" is in use"))))
		Expect(update(shoot, referTo(newIdentity()))).To(Succeed())
		Expect(testClient.Delete(ctx, identity)).To(Succeed())
	})

	It("protects what has lost Gardener's finalizer", func() {
		secret, identity := newSecret(), newIdentity()
		for object, shoot := range map[client.Object]*gardencorev1beta1.Shoot{
			secret:   newShoot(caches(privateCache), resource(secret)),
			identity: newShoot(caches(ecrCache), referTo(identity)),
		} {
			Expect(create(shoot)).To(Succeed())
			awaitFinalizer(object)
			object.SetFinalizers(nil)
			Expect(testClient.Update(ctx, object)).To(Succeed())
			Expect(testClient.Delete(ctx, object)).To(beProtectedBy("secret-unmarked", shoot.Name, "(spec.resources[0], used in "+cachesPath+"[0].secretReferenceName)"))

			Expect(update(shoot, func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions, s.Spec.Resources = nil, nil })).To(Succeed())
			Expect(testClient.Delete(ctx, object)).To(Succeed())
			Expect(testClient.Get(ctx, client.ObjectKeyFromObject(object), object)).To(Satisfy(apierrors.IsNotFound))
		}
	})

	It("names every Shoot that uses the Secret", func() {
		secret := newSecret()
		one := newShoot(caches(privateCache), resource(secret))
		two := newShoot(caches(privateCache+`,{"upstream":"ghcr.io","secretReferenceName":"robot"}`), reference(secret.Name, "Secret"))
		for _, shoot := range []*gardencorev1beta1.Shoot{one, two} {
			Expect(create(shoot)).To(Succeed())
		}
		secret = protected(one)
		Expect(testClient.Delete(ctx, secret)).To(And(beProtected(one.Name), beProtected(two.Name,
			"(spec.resources[0], used in "+cachesPath+"[0].secretReferenceName, "+cachesPath+"[1].secretReferenceName)")))
		Expect(update(one, resource(newSecret()))).To(Succeed())
		Expect(testClient.Delete(ctx, secret)).To(And(beProtected(two.Name), MatchError(Not(ContainSubstring(one.Name)))))
		Expect(update(two, caches(`{"upstream":"ghcr.io"}`), noResources)).To(Succeed())
		released(secret)
		Expect(testClient.Delete(ctx, secret)).To(Succeed())
	})

	It("protects Secrets of a Shoot in deletion", func() {
		shoot := newShoot(caches(privateCache), resource(newSecret()), func(s *gardencorev1beta1.Shoot) {
			s.Annotations = map[string]string{"confirmation.gardener.cloud/deletion": "true"}
		})
		Expect(create(shoot)).To(Succeed())
		secret := protected(shoot)
		Expect(testClient.Get(ctx, client.ObjectKeyFromObject(shoot), shoot)).To(Succeed())
		Expect(update(shoot, func(s *gardencorev1beta1.Shoot) { s.Finalizers = append(s.Finalizers, "gardener") })).To(Succeed())
		Expect(testClient.Delete(ctx, shoot)).To(Succeed())
		Expect(testClient.Get(ctx, client.ObjectKeyFromObject(shoot), shoot)).To(Succeed())
		Expect(shoot.DeletionTimestamp).NotTo(BeNil())
		Expect(testClient.Delete(ctx, secret)).To(beProtected(shoot.Name))

		Expect(update(shoot, func(s *gardencorev1beta1.Shoot) { s.Finalizers = nil })).To(Succeed())
		Eventually(func() error { return testClient.Get(ctx, client.ObjectKeyFromObject(shoot), shoot) }).Should(Satisfy(apierrors.IsNotFound))
		Expect(testClient.Delete(ctx, secret)).To(Succeed())
	})

	It("ignores references that no cache uses and disabled extensions", func() {
		for _, change := range []change{caches(`{"upstream":"docker.io"}`), disabled} {
			shoot := newShoot(caches(privateCache), resource(newSecret()), change)
			Expect(create(shoot)).To(Succeed())
			Expect(testClient.Delete(ctx, protected(shoot))).To(Succeed())
		}
	})

	It("follows the rotation of a CA bundle", func() {
		shoot := newMirrored(mirrors(privateMirror), resource(newCASecret()))
		Expect(create(shoot)).To(Succeed())
		v1 := protected(shoot)
		Expect(testClient.Delete(ctx, v1)).To(beProtected(shoot.Name, "(spec.resources[0], used in "+caReference+")"))

		Expect(update(shoot, resource(newCASecret()))).To(Succeed())
		Expect(testClient.Delete(ctx, protected(shoot))).To(beProtected(shoot.Name))
		released(v1)
		Expect(testClient.Delete(ctx, v1)).To(Succeed())
		Expect(testClient.Get(ctx, client.ObjectKeyFromObject(v1), v1)).To(Satisfy(apierrors.IsNotFound))

		By("the removal of the mirror")
		v2 := protected(shoot)
		Expect(update(shoot, mirrors(publicMirror))).To(Succeed())
		Expect(testClient.Delete(ctx, v2)).To(Succeed())
	})

	It("covers a Shoot with caches and mirrors", func() {
		shoot := newMirrored(mirrors(`{"upstream":"quay.io","hosts":[{"host":"https://a","caBundleSecretReferenceName":"ca"}]}`),
			resource(newSecret()), resource(newCASecret(), "ca"), andCaches(privateCache))
		Expect(create(shoot)).To(Succeed())
		Expect(testClient.Delete(ctx, protected(shoot, 0))).To(beProtected(shoot.Name, "(spec.resources[0], used in spec.extensions[1].providerConfig.caches[0].secretReferenceName)"))
		Expect(testClient.Delete(ctx, protected(shoot, 1))).To(beProtected(shoot.Name, "(spec.resources[1], used in "+caReference+")"))
	})

	It("covers every reference of a cache", func() {
		const text = `{"upstream":"private.example.com","secretReferenceName":"robot",%s` +
			`"caBundleSecretReferenceName":"ca","proxy":{"httpsProxy":"http://proxy.example.com:3128","secretReferenceName":"proxy"}}`
		const credentials = `"credentials":[{"repositories":["team-a"],"secretReferenceName":"a"}],`
		shoot := newShoot(caches(fmt.Sprintf(text, credentials)),
			resource(newSecret()), resource(newSecret(), "a"), resource(newCASecret(), "ca"), resource(newSecret(), "proxy"))
		Expect(create(shoot)).To(Succeed())
		for i, field := range []string{"secretReferenceName", "credentials[0].secretReferenceName", "caBundleSecretReferenceName", "proxy.secretReferenceName"} {
			Expect(testClient.Delete(ctx, protected(shoot, i), client.DryRunAll)).
				To(beProtected(shoot.Name, fmt.Sprintf("(spec.resources[%d], used in %s[0].%s)", i, cachesPath, field)))
		}

		By("the removal of a reference")
		secret := protected(shoot, 1)
		Expect(update(shoot, caches(fmt.Sprintf(text, "")), func(s *gardencorev1beta1.Shoot) { s.Spec.Resources = slices.Delete(s.Spec.Resources, 1, 2) })).To(Succeed())
		released(secret)
		Expect(testClient.Delete(ctx, secret)).To(Succeed())
		Expect(testClient.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Satisfy(apierrors.IsNotFound))
	})

	It("protects Secrets from the deletion of a collection", func() {
		labelled := func(s *corev1.Secret) { s.Labels = map[string]string{"collection": "true"} }
		shoot := newShoot(caches(privateCache), resource(newSecret(labelled)))
		Expect(create(shoot)).To(Succeed())
		secret := protected(shoot)
		Expect(testClient.Create(ctx, newSecret(labelled))).To(Succeed())
		deleteAll := func(options ...client.DeleteAllOfOption) error {
			return testClient.DeleteAllOf(ctx, &corev1.Secret{}, append(options, client.InNamespace(namespace), client.MatchingLabels{"collection": "true"})...)
		}
		Expect(deleteAll(client.DryRunAll)).To(beProtected(shoot.Name))
		Expect(deleteAll()).To(beProtected(shoot.Name))
		Expect(testClient.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
		Expect(secret.DeletionTimestamp).To(BeNil())

		Expect(update(shoot, resource(newSecret()))).To(Succeed())
		released(secret)
		Expect(deleteAll()).To(Succeed())
		Expect(testClient.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Satisfy(apierrors.IsNotFound))
	})

	It("does not block the deletion of other Secrets while the component is down", func() {
		shoot := newShoot(caches(privateCache), resource(newSecret()))
		Expect(create(shoot)).To(Succeed())
		secret, other := protected(shoot), newSecret()
		Expect(testClient.Create(ctx, other)).To(Succeed())

		DeferCleanup(func() { program.start() })
		program.stop()
		Expect(testClient.Delete(ctx, secret)).To(MatchError(ContainSubstring("failed calling webhook")))
		Expect(testClient.Delete(ctx, other)).To(Succeed())
		Expect(testClient.Create(ctx, newSecret())).To(Succeed())
		Expect(create(newShoot(func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions = nil }))).To(Succeed())
	})
})

// startReferenceController starts the controller of gardener-controller-manager that adds finalizers to Secrets, for
// the tests of this container.
func startReferenceController() {
	GinkgoHelper()
	mgr, err := manager.New(restConfig, manager.Options{
		Scheme:  kubernetes.GardenScheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Cache:   cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(shootreference.AddToManager(mgr, controllermanagerconfigv1alpha1.ShootReferenceControllerConfiguration{ConcurrentSyncs: new(5)})).To(Succeed())
	suite.Background("reference controller", mgr.Start)
}

// protected returns the Secret of an entry in the Shoot's spec.resources, once it has Gardener's finalizer.
func protected(shoot *gardencorev1beta1.Shoot, index ...int) *corev1.Secret {
	GinkgoHelper()
	secret := &corev1.Secret{}
	secret.Namespace, secret.Name = namespace, shoot.Spec.Resources[append(index, 0)[0]].ResourceRef.Name
	awaitFinalizer(secret)
	return secret
}

// awaitFinalizer waits until the object has Gardener's finalizer.
func awaitFinalizer(object client.Object) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(testClient.Get(ctx, client.ObjectKeyFromObject(object), object)).To(Succeed())
		g.Expect(controllerutil.ContainsFinalizer(object, finalizer)).To(BeTrue())
	}).Should(Succeed())
}

// newIdentity creates a WorkloadIdentity for Amazon ECR.
func newIdentity() *securityv1alpha1.WorkloadIdentity {
	GinkgoHelper()
	identity := &securityv1alpha1.WorkloadIdentity{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "puller-"},
		Spec: securityv1alpha1.WorkloadIdentitySpec{
			Audiences: []string{"sts.amazonaws.com"},
			TargetSystem: securityv1alpha1.TargetSystem{Type: "aws", ProviderConfig: &runtime.RawExtension{
				Raw: []byte(`{"apiVersion":"aws.provider.extensions.gardener.cloud/v1alpha1","kind":"WorkloadIdentityConfig","roleARN":"arn:aws:iam::123456789012:role/puller"}`),
			}},
		},
	}
	Expect(testClient.Create(ctx, identity)).To(Succeed())
	return identity
}

// referTo sets the entry of spec.resources.
func referTo(identity *securityv1alpha1.WorkloadIdentity) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		reference(identity.Name, "WorkloadIdentity")(shoot)
		shoot.Spec.Resources[0].ResourceRef.APIVersion = securityv1alpha1.SchemeGroupVersion.String()
	}
}

// released waits until Gardener's finalizer is removed.
func released(secret *corev1.Secret) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(testClient.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
		g.Expect(secret.Finalizers).To(BeEmpty())
	}).Should(Succeed())
}

// beProtected matches a rejection by the webhook for Secrets with Gardener's finalizer, which names the Shoot and the
// field that uses the Secret.
func beProtected(shoot string, use ...string) gomegatypes.GomegaMatcher {
	return beProtectedBy("secret", shoot, use...)
}

func beProtectedBy(webhook, shoot string, use ...string) gomegatypes.GomegaMatcher {
	return And(
		MatchError(ContainSubstring(`admission webhook "`+webhook+`.registry-cache-admission.extensions.gardener.cloud" denied the request`)),
		Satisfy(apierrors.IsForbidden),
		MatchError(ContainSubstring("Shoot "+shoot+" "+append(use, "")[0])),
		MatchError(Not(ContainSubstring("hunter2"))),
	)
}
