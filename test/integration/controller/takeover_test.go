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
	"github.com/larder-project/larder/pkg/controller/cache"
	"github.com/larder-project/larder/test/takeover"
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
		services, err := takeover.Services()
		Expect(err).NotTo(HaveOccurred())
		caches, err := takeover.Caches()
		Expect(err).NotTo(HaveOccurred())
		s.deployOld(ctx, cache.ManagedResourceServices, services...)
		oldSecrets := s.deployOld(ctx, cache.ManagedResource, caches...)
		service := inShoot(&corev1.Service{}, name)
		Eventually(ctx, get(service)).Should(Succeed())
		statefulSet := inShoot(&appsv1.StatefulSet{}, name)
		Eventually(ctx, get(statefulSet)).Should(Succeed())
		claim, pod := createClaim(ctx, name, hub.Upstream), createPod(ctx, statefulSet)
		address := clusterIP(ctx, name)
		oldStatus, err := takeover.Status(address, oldCA.Name)
		Expect(err).NotTo(HaveOccurred())
		s.setOldStatus(ctx, oldStatus)

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

		expectKept := func() {
			GinkgoHelper()
			for _, kept := range []client.Object{service, claim, pod} {
				uid := kept.GetUID()
				Expect(get(kept)(ctx)).To(Succeed())
				Expect(kept.GetUID()).To(Equal(uid))
				Expect(kept.GetDeletionTimestamp()).To(BeNil())
			}
			Expect(metav1.GetControllerOf(pod)).To(BeNil(), "an orphan, which the new StatefulSet adopts")
		}
		By("Service, volume and pod, kept")
		expectKept()

		By("ManagedResource, with new content only")
		managedResource := s.managedResource(cache.ManagedResource)
		Expect(get(managedResource)(ctx)).To(Succeed())
		Expect(managedResource.Spec.SecretRefs).To(HaveLen(1))
		Expect(managedResource.Spec.SecretRefs[0].Name).NotTo(Equal(oldSecrets))

		By("Back, by the same objects in the same ManagedResources")
		adopt(ctx, taken, pod)
		s.deployOld(ctx, cache.ManagedResourceServices, services...)
		s.deployOld(ctx, cache.ManagedResource, caches...)
		back := inShoot(&appsv1.StatefulSet{}, name)
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(back)(ctx)).To(Succeed())
			g.Expect(back.UID).NotTo(Equal(taken.UID))
			g.Expect(back.Spec.PodManagementPolicy).To(Equal(appsv1.OrderedReadyPodManagement))
			g.Expect(back.Spec.Template.Spec.Containers[0].Image).To(Equal("example.com/registry:3"))
		}).Should(Succeed())
		expectKept()
		Expect(clusterIP(ctx, name)).To(Equal(address))
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

func (s *shoot) setOldStatus(ctx context.Context, status []byte) {
	GinkgoHelper()
	extension := s.extension()
	extension.Spec = extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "registry-cache"}}
	Expect(testClient.Create(ctx, extension)).To(Succeed())
	patch := client.MergeFrom(extension.DeepCopy())
	extension.Status.ProviderStatus = &runtime.RawExtension{Raw: status}
	Expect(testClient.Status().Patch(ctx, extension, patch)).To(Succeed())
}

// createPod creates the pod that the StatefulSet controller would create.
func createPod(ctx context.Context, statefulSet *appsv1.StatefulSet) *corev1.Pod {
	GinkgoHelper()
	pod := inShoot(&corev1.Pod{}, statefulSet.Name+"-0")
	pod.Labels, pod.Spec = statefulSet.Spec.Template.Labels, statefulSet.Spec.Template.Spec
	for _, claim := range statefulSet.Spec.VolumeClaimTemplates {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name + "-" + pod.Name},
		}})
	}
	Expect(controllerutil.SetControllerReference(statefulSet, pod, testClient.Scheme())).To(Succeed())
	Expect(testClient.Create(ctx, pod)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(testClient.Delete(ctx, pod, client.GracePeriodSeconds(0)))).To(Succeed())
	})
	return pod
}

// adopt makes the StatefulSet the controller of an orphaned pod, as the StatefulSet controller would.
func adopt(ctx context.Context, statefulSet *appsv1.StatefulSet, pod *corev1.Pod) {
	GinkgoHelper()
	patch := client.MergeFrom(pod.DeepCopy())
	Expect(controllerutil.SetControllerReference(statefulSet, pod, testClient.Scheme())).To(Succeed())
	Expect(testClient.Patch(ctx, pod, patch)).To(Succeed())
}
