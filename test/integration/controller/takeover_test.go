// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/utils/managedresources"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	secretsmanager "github.com/gardener/gardener/pkg/utils/secrets/manager"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/cache"
)

// An earlier extension of this type has left objects with the same names and other contents.
var _ = Describe("Extension that replaces another one", func() {
	const name = "registry-docker-io"

	var (
		s   *shoot
		hub = v1alpha3.RegistryCache{Upstream: "docker.io"}
	)

	BeforeEach(func(ctx SpecContext) {
		s = newShoot(ctx)
	})

	It("keeps volumes, pods and trust", func(ctx SpecContext) {
		By("Objects of the other extension")
		oldCA, oldServer := s.issueOldCertificates(ctx, name)
		service := inShoot(&corev1.Service{}, name)
		service.Labels = map[string]string{"app": name, "upstream-host": "docker.io"}
		service.Spec = corev1.ServiceSpec{Selector: service.Labels, Ports: []corev1.ServicePort{{Name: "registry-cache", Port: 5000}}}
		s.deployOld(ctx, cache.ManagedResourceServices, service)
		oldSecrets := s.deployOld(ctx, cache.ManagedResource, oldStatefulSet(name))
		statefulSet := inShoot(&appsv1.StatefulSet{}, name)
		Eventually(ctx, get(statefulSet)).Should(Succeed())
		claim, pod := createClaim(ctx, name, hub.Upstream), createPod(ctx, statefulSet)
		address := clusterIP(ctx, name)
		s.setOldStatus(ctx, `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryStatus","caSecretName":"`+oldCA.Name+`",
			"caches":[{"upstream":"docker.io","endpoint":"https://`+address+`:5000","remoteURL":"https://registry-1.docker.io"}]}`)

		status := statusOf(s.reconcile(ctx, hub))

		By("Address")
		Expect(status.Caches).To(HaveLen(1))
		Expect(status.Caches[0].Endpoint).To(Equal("https://" + address + ":5000"))

		By("Certificates: nodes with only the old CA trust the new certificate")
		bundle := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: *status.CASecretName}}
		Expect(get(bundle)(ctx)).To(Succeed())
		old, _ := pem.Decode(oldCA.Data["ca.crt"])
		Expect(bytes.Contains(bundle.Data["bundle.crt"], pem.EncodeToMemory(old))).To(BeTrue(), "the old CA is in the bundle")
		Expect(bytes.Count(bundle.Data["bundle.crt"], []byte("BEGIN CERTIFICATE"))).To(Equal(2))
		expectCertificate(ctx, name+"-tls", status.Caches[0].Endpoint, oldCA.Data["ca.crt"])
		Expect(get(oldCA)(ctx)).To(Succeed())
		Expect(get(oldServer)(ctx)).To(beNotFound())

		By("StatefulSet, replaced")
		taken := inShoot(&appsv1.StatefulSet{}, name)
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(taken)(ctx)).To(Succeed())
			g.Expect(taken.UID).NotTo(Equal(statefulSet.UID))
			g.Expect(taken.Spec.PodManagementPolicy).To(Equal(appsv1.ParallelPodManagement))
		}).Should(Succeed())

		By("Volume and pod, kept")
		for _, kept := range []client.Object{claim, pod} {
			uid := kept.GetUID()
			Expect(get(kept)(ctx)).To(Succeed())
			Expect(kept.GetUID()).To(Equal(uid))
			Expect(kept.GetDeletionTimestamp()).To(BeNil())
		}
		Expect(metav1.GetControllerOf(pod)).To(BeNil(), "an orphan, which the new StatefulSet adopts")

		By("ManagedResource, with new content only")
		managedResource := s.managedResource(cache.ManagedResource)
		Expect(get(managedResource)(ctx)).To(Succeed())
		Expect(managedResource.Spec.SecretRefs).To(HaveLen(1))
		Expect(managedResource.Spec.SecretRefs[0].Name).NotTo(Equal(oldSecrets))
	})
})

// issueOldCertificates issues certificates with the same names from different requests.
func (s *shoot) issueOldCertificates(ctx context.Context, cacheName string) (ca, server *corev1.Secret) {
	GinkgoHelper()
	manager, err := secretsmanager.New(ctx, logr.Discard(), clock.RealClock{}, testClient, "extension-registry-cache", secretsmanager.WithNamespaces(s.namespace))
	Expect(err).NotTo(HaveOccurred())
	ca, err = manager.Generate(ctx, &secretsutils.CertificateSecretConfig{
		Name: "ca-extension-registry-cache", CommonName: "ca-extension-registry-cache", CertType: secretsutils.CACert, Validity: new(365 * 24 * time.Hour),
	}, secretsmanager.Persist(), secretsmanager.Rotate(secretsmanager.KeepOld))
	Expect(err).NotTo(HaveOccurred())
	server, err = manager.Generate(ctx, &secretsutils.CertificateSecretConfig{
		Name: cacheName + "-tls", CommonName: cacheName, CertType: secretsutils.ServerCert, Validity: new(30 * 24 * time.Hour),
	}, secretsmanager.SignedByCA("ca-extension-registry-cache"))
	Expect(err).NotTo(HaveOccurred())
	return ca, server
}

// deployOld deploys objects by a ManagedResource whose Secret is not called as it would be here, and returns that name.
func (s *shoot) deployOld(ctx context.Context, name string, objects ...client.Object) string {
	GinkgoHelper()
	data, err := managedresources.NewRegistry(kubernetes.ShootScheme, kubernetes.ShootCodec, kubernetes.ShootSerializer).AddAllAndSerialize(objects...)
	Expect(err).NotTo(HaveOccurred())
	Expect(managedresources.Create(ctx, testClient, s.namespace, name, map[string]string{"origin": "other"}, false, "", data, new(false), nil, nil)).To(Succeed())
	managedResource := s.managedResource(name)
	waitUntilApplied(ctx, managedResource)
	return managedResource.Spec.SecretRefs[0].Name
}

func (s *shoot) setOldStatus(ctx context.Context, status string) {
	GinkgoHelper()
	extension := s.extension()
	extension.Spec = extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "registry-cache"}}
	Expect(testClient.Create(ctx, extension)).To(Succeed())
	patch := client.MergeFrom(extension.DeepCopy())
	extension.Status.ProviderStatus = &runtime.RawExtension{Raw: []byte(status)}
	Expect(testClient.Status().Patch(ctx, extension, patch)).To(Succeed())
}

func oldStatefulSet(name string) *appsv1.StatefulSet {
	labels := map[string]string{"app": name, "upstream-host": "docker.io"}
	statefulSet := inShoot(&appsv1.StatefulSet{}, name)
	statefulSet.Labels = labels
	statefulSet.Spec = appsv1.StatefulSetSpec{
		ServiceName: "other",
		Selector:    &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "registry-cache", Image: "example.com/registry:3"}}},
		},
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{*newClaim(component.VolumeClaimTemplate)},
	}
	return statefulSet
}

// createPod creates the pod that the StatefulSet controller would create.
func createPod(ctx context.Context, statefulSet *appsv1.StatefulSet) *corev1.Pod {
	GinkgoHelper()
	pod := inShoot(&corev1.Pod{}, statefulSet.Name+"-0")
	pod.Labels, pod.Spec = statefulSet.Spec.Template.Labels, statefulSet.Spec.Template.Spec
	Expect(controllerutil.SetControllerReference(statefulSet, pod, testClient.Scheme())).To(Succeed())
	Expect(testClient.Create(ctx, pod)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(testClient.Delete(ctx, pod, client.GracePeriodSeconds(0)))).To(Succeed())
	})
	return pod
}
