// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"os"
	"path/filepath"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	gardenerutils "github.com/gardener/gardener/pkg/utils/gardener"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
)

var _ = Describe("The lifecycle of a Shoot", func() {
	It("leaves nothing of an extension that is removed from the Shoot", Label("removal"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost))
		pull(ctx, newImage(ctx, garden.PrivateHost))

		configure(ctx)
		expectNoTraces(ctx)
		expectGone(ctx, &extensionsv1alpha1.Extension{}, client.ObjectKey{Namespace: seedNamespace, Name: garden.ExtensionType})
		secrets := &corev1.SecretList{}
		Expect(c.List(ctx, secrets, client.InNamespace(seedNamespace), client.MatchingLabels{"manager-identity": "extension-registry-cache"})).To(Succeed())
		Expect(secrets.Items).To(BeEmpty(), "certificates in the seed")
	}, SpecTimeout(journeyTimeout))

	It("releases the address of a removed cache after the node no longer uses it", Label("address"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost), garden.Cache(garden.BasicHost))
		hosts := evidence.HostsFile(here, garden.BasicHost)
		Eventually(ctx, func() string { return hosts }).Should(BeAnExistingFile())
		service := func(ctx context.Context) error { return c.Get(ctx, cacheKey(garden.BasicHost), &corev1.Service{}) }

		looking, stop := context.WithCancel(ctx)
		looks, free := 0, 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for looking.Err() == nil {
				_, before := os.Stat(hosts)
				err := service(looking)
				_, after := os.Stat(hosts)
				looks++
				// The address was free while the node still used it.
				if before == nil && after == nil && apierrors.IsNotFound(err) {
					free++
				}
			}
		}()
		configure(ctx, garden.Cache(garden.PrivateHost))
		Eventually(ctx, service).Should(Satisfy(apierrors.IsNotFound))
		stop()
		<-done
		Expect(hosts).NotTo(BeAnExistingFile())
		Expect(looks).To(BeNumerically(">", 0))
		Expect(free).To(BeZero())
	}, SpecTimeout(journeyTimeout))

	It("leaves nothing of a deleted Shoot", Label("deletion"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost))
		shoot := getShoot(ctx)
		Expect(gardenerutils.ConfirmDeletion(ctx, c, shoot)).To(Succeed())
		Expect(c.Delete(ctx, shoot)).To(Succeed())
		Eventually(ctx, func() error { return c.Get(ctx, shootKey, &gardencorev1beta1.Shoot{}) }).Should(Satisfy(apierrors.IsNotFound))

		expectNoTraces(ctx)
		expectGone(ctx, &corev1.Namespace{}, client.ObjectKey{Name: seedNamespace})
		expectGone(ctx, &extensionsv1alpha1.Cluster{}, client.ObjectKey{Name: seedNamespace})
	}, SpecTimeout(journeyTimeout))

	It("hibernates and wakes up with the Shoot", Label("hibernation"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost))
		image := newImage(ctx, garden.PrivateHost)
		pull(ctx, image)

		hibernate := func(hibernation *gardencorev1beta1.Hibernation) {
			GinkgoHelper()
			shoot := getShoot(ctx)
			patch := client.MergeFrom(shoot.DeepCopy())
			shoot.Spec.Hibernation = hibernation
			Expect(c.Patch(ctx, shoot, patch)).To(Succeed())
			Expect(garden.WaitForShoot(ctx, c, shootKey)).To(Succeed())
		}
		hibernate(&gardencorev1beta1.Hibernation{Enabled: new(true)})
		Expect(getShoot(ctx).Status.IsHibernated).To(BeTrue())
		Expect(evidence.HostsFile(here, garden.PrivateHost)).NotTo(BeAnExistingFile())

		hibernate(nil)
		before := counts(ctx, garden.PrivateHost)
		pull(ctx, image)
		Expect(counts(ctx, garden.PrivateHost).Minus(before).Misses).To(BeZero(), "the volume was kept")
	}, SpecTimeout(journeyTimeout))
})

// expectNoTraces expects that neither the shoot nor its node has any trace of a cache.
func expectNoTraces(ctx context.Context) {
	GinkgoHelper()
	for _, list := range []client.ObjectList{
		&appsv1.StatefulSetList{}, &corev1.PodList{}, &corev1.ServiceList{}, &corev1.SecretList{},
		&corev1.PersistentVolumeClaimList{}, &networkingv1.NetworkPolicyList{},
	} {
		Eventually(ctx, func(g Gomega) {
			g.Expect(c.List(ctx, list, client.InNamespace(metav1.NamespaceSystem), client.HasLabels{"upstream-host"})).To(Succeed())
			g.Expect(list).To(HaveField("Items", BeEmpty()))
		}).Should(Succeed())
	}
	volumes := &corev1.PersistentVolumeList{}
	Eventually(ctx, func(g Gomega) {
		g.Expect(c.List(ctx, volumes)).To(Succeed())
		g.Expect(volumes.Items).To(BeEmpty())
	}).Should(Succeed())

	hosts := evidence.HostsFile(here, garden.PrivateHost)
	Expect(hosts).NotTo(BeAnExistingFile())
	Expect(filepath.Join(filepath.Dir(filepath.Dir(hosts)), "ca-bundle.pem")).NotTo(BeAnExistingFile())
}

func expectGone(ctx context.Context, object client.Object, key client.ObjectKey) {
	GinkgoHelper()
	Eventually(ctx, func() error { return c.Get(ctx, key, object) }).Should(Satisfy(apierrors.IsNotFound), "%T %s", object, key)
}
