// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/utils/kubernetes/health"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/upstream"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/landscape/gardenlet"
)

const (
	// journeyTimeout exceeds the duration on any machine that can run a landscape.
	journeyTimeout = 15 * time.Minute
	seedNamespace  = "shoot--dev--example"
	podName        = "journey"
	// repository separates the journeys' images from those of the landscape's evidence.
	repository = "journeys/hello"
)

var (
	shootKey           = client.ObjectKey{Namespace: gardenlet.ProjectNamespace, Name: "example"}
	managedResourceKey = client.ObjectKey{Namespace: seedNamespace, Name: "extension-registry-cache"}
	servicesKey        = client.ObjectKey{Namespace: seedNamespace, Name: "extension-registry-cache-services"}
)

// configure sets the caches of the Shoot, and waits until Gardener is done and all replicas are updated and ready.
func configure(ctx context.Context, caches ...v1alpha3.RegistryCache) {
	GinkgoHelper()
	configureWith(ctx, garden.CredentialsName, caches...)
}

// configureWith is configure with another Secret for the reference to the credential.
func configureWith(ctx context.Context, secret string, caches ...v1alpha3.RegistryCache) {
	GinkgoHelper()
	shoot, err := garden.Shoot(here, caches...)
	Expect(err).NotTo(HaveOccurred())
	for i := range shoot.Spec.Resources {
		shoot.Spec.Resources[i].ResourceRef.Name = secret
	}
	Expect(garden.ApplyShoot(ctx, c, shoot)).To(Succeed())
	if len(caches) == 0 {
		return
	}
	Eventually(ctx, func(g Gomega) {
		resource := &resourcesv1alpha1.ManagedResource{}
		g.Expect(c.Get(ctx, managedResourceKey, resource)).To(Succeed())
		g.Expect(health.CheckManagedResource(resource)).To(Succeed())
	}).Should(Succeed())
	for _, cache := range caches {
		expectReady(ctx, cache.Upstream)
	}
}

func expectReady(ctx context.Context, host string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		set := &appsv1.StatefulSet{}
		g.Expect(c.Get(ctx, cacheKey(host), set)).To(Succeed())
		g.Expect(set.Status.ObservedGeneration).To(Equal(set.Generation))
		g.Expect(set.Status.UpdatedReplicas).To(Equal(*set.Spec.Replicas))
		g.Expect(set.Status.ReadyReplicas).To(Equal(*set.Spec.Replicas))
		g.Expect(set.Status.Replicas).To(Equal(*set.Spec.Replicas))
	}).Should(Succeed())
	// The node stops using a cache that does not respond, and uses it again a moment after it does.
	Eventually(ctx, evidence.HostsFile).WithArguments(here, host).Should(BeARegularFile())
}

// cacheKey returns the key of the objects of an upstream's cache.
func cacheKey(host string) client.ObjectKey {
	return client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: upstream.Upstream(host).ResourceName()}
}

// getShoot reads the Shoot.
func getShoot(ctx context.Context) *gardencorev1beta1.Shoot {
	GinkgoHelper()
	shoot := &gardencorev1beta1.Shoot{}
	Expect(c.Get(ctx, shootKey, shoot)).To(Succeed())
	return shoot
}

// tryShoot asks the API server whether it would accept a change of the Shoot, whose status may change meanwhile.
func tryShoot(ctx context.Context, change func(*gardencorev1beta1.Shoot)) error {
	GinkgoHelper()
	shoot := getShoot(ctx)
	patch := client.MergeFrom(shoot.DeepCopy())
	change(shoot)
	return c.Patch(ctx, shoot, patch, client.DryRunAll)
}

// reconcileShoot reconciles the Shoot, like its maintenance.
func reconcileShoot(ctx context.Context) {
	GinkgoHelper()
	shoot := getShoot(ctx)
	patch := client.MergeFrom(shoot.DeepCopy())
	metav1.SetMetaDataAnnotation(&shoot.ObjectMeta, v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile)
	Expect(c.Patch(ctx, shoot, patch)).To(Succeed())
	Expect(garden.WaitForShoot(ctx, c, shootKey)).To(Succeed())
}

// newImage pushes an image that has never been pulled.
func newImage(ctx context.Context, host string) string {
	GinkgoHelper()
	image := fmt.Sprintf("%s/%s:%d", host, repository, time.Now().UnixNano())
	Expect(garden.PushDemo(ctx, here, image)).To(Succeed())
	return image
}

// pull runs a pod of the image without credentials, after removing the image from the node.
func pull(ctx context.Context, image string, change ...func(*corev1.Pod)) {
	GinkgoHelper()
	pod := evidence.Pod(podName, image)
	for _, f := range change {
		f(pod)
	}
	Expect(evidence.Delete(ctx, c, pod)).To(Succeed())
	for _, host := range []string{garden.PrivateHost, garden.BasicHost} {
		Expect(evidence.Forget(ctx, here, host+"/"+repository)).To(Succeed())
	}
	DeferCleanup(evidence.Delete, c, pod)
	Expect(evidence.Run(ctx, c, pod)).To(Succeed())
}

// counts returns the metrics of an upstream's cache.
func counts(ctx context.Context, host string) evidence.Counts {
	GinkgoHelper()
	counts, err := evidence.CacheCounts(ctx, here, c, host)
	Expect(err).NotTo(HaveOccurred())
	return counts
}

// expectHits waits until a cache has counted hits, which happens after their responses.
func expectHits(ctx context.Context, host string, before evidence.Counts) {
	GinkgoHelper()
	Eventually(ctx, func() int { return counts(ctx, host).Minus(before).Hits }).Should(BeNumerically(">", 0))
}

// addresses returns those of an upstream's cache.
func addresses(ctx context.Context, host string) []string {
	GinkgoHelper()
	pods, err := evidence.CachePods(ctx, c, host)
	Expect(err).NotTo(HaveOccurred())
	ips := make([]string, 0, len(pods))
	for _, pod := range pods {
		ips = append(ips, pod.Status.PodIP)
	}
	return ips
}

// accessLog opens the upstreams' log at its current end.
func accessLog() *evidence.AccessLog {
	GinkgoHelper()
	log, err := evidence.OpenAccessLog(here)
	Expect(err).NotTo(HaveOccurred())
	return log
}

// hostsFile returns the configuration of the node's containerd for an upstream.
func hostsFile(host string) string {
	GinkgoHelper()
	content, err := os.ReadFile(evidence.HostsFile(here, host))
	Expect(err).NotTo(HaveOccurred())
	return string(content)
}

// pullSecret creates credentials for a registry, which pods can reference.
func pullSecret(ctx context.Context, host string) func(*corev1.Pod) {
	GinkgoHelper()
	username, password, err := here.Puller()
	Expect(err).NotTo(HaveOccurred())
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "journey", Namespace: metav1.NamespaceDefault},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: dockerConfig(host, username, password)},
	}
	Expect(c.Create(ctx, secret)).To(Succeed())
	DeferCleanup(func(ctx context.Context) error { return c.Delete(ctx, secret) })
	return func(pod *corev1.Pod) {
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: secret.Name}}
	}
}
