// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	controller "github.com/larder-project/larder/pkg/controller/cache"
	"github.com/larder-project/larder/test/pki"
)

var _ = Describe("Connection", func() {
	const name = "registry-private-example-com"

	var (
		s         *shoot
		authority *pki.Authority
		cache     v1alpha3.RegistryCache
		proxyV1   = map[string]string{"username": "proxy", "password": "example: \"#%*"}
	)

	BeforeEach(func(ctx SpecContext) {
		s = newShoot(ctx)
		var err error
		authority, err = pki.NewAuthority("upstream")
		Expect(err).NotTo(HaveOccurred())
		cache = v1alpha3.RegistryCache{
			Upstream:                             "private.example.com",
			CABundleSecretReferenceName:          new("ca"),
			ClientCertificateSecretReferenceName: new("client"),
			AllowedRealms:                        []string{"auth.example.org"},
			Timeouts:                             &v1alpha3.Timeouts{FirstByte: &metav1.Duration{Duration: 2 * time.Minute}},
			Proxy: &v1alpha3.Proxy{
				HTTPSProxy: new("http://proxy.example.com:3128"), NoProxy: []string{".example.org"}, SecretReferenceName: new("proxy"),
			},
		}
	})

	clientCertificate := func() map[string]string {
		GinkgoHelper()
		pair, err := authority.Issue(pki.Request{CommonName: "cache"})
		Expect(err).NotTo(HaveOccurred())
		return map[string]string{"tls.crt": string(pair.Certificate), "tls.key": string(pair.Key)}
	}
	referTo := func(ctx SpecContext, entry, secretName string) {
		s.update(ctx, func(shoot *gardencorev1beta1.Shoot) {
			for i := range shoot.Spec.Resources {
				if shoot.Spec.Resources[i].Name == entry {
					shoot.Spec.Resources[i].ResourceRef.Name = secretName
				}
			}
		})
	}

	It("is one Secret that follows rotations, without a new pod", func(ctx SpecContext) {
		client := clientCertificate()
		s.refer(ctx, "ca", "ca-v1", map[string]string{"bundle.crt": string(authority.Certificate)})
		s.refer(ctx, "client", "client-v1", client)
		s.refer(ctx, "proxy", "proxy-v1", proxyV1)
		s.reconcile(ctx, cache)

		secret, statefulSet := inShoot(&corev1.Secret{}, name+"-connection"), inShoot(&appsv1.StatefulSet{}, name)
		Eventually(ctx, get(secret)).Should(Succeed())
		expected := map[string][]byte{
			"bundle.crt": authority.Certificate, "tls.crt": []byte(client["tls.crt"]), "tls.key": []byte(client["tls.key"]),
			"proxy-username": []byte("proxy"), "proxy-password": []byte(proxyV1["password"]),
		}
		Expect(secret.Data).To(Equal(expected))
		Eventually(ctx, get(statefulSet)).Should(Succeed())
		Expect(statefulSet.Spec.Template.Spec.Containers[0].Env).To(ContainElements(
			corev1.EnvVar{Name: "HTTPS_PROXY", Value: "http://proxy.example.com:3128"}, corev1.EnvVar{Name: "NO_PROXY", Value: ".example.org"}))
		generation := statefulSet.Generation
		resources := s.managedResource(controller.ManagedResource)
		Expect(get(resources)(ctx)).To(Succeed())
		Expect(resources.Spec.SecretRefs).To(HaveLen(2), "what owners may make large is apart")

		By("Rotation")
		client = clientCertificate()
		s.createSecret(ctx, "client-v2", client, true)
		s.createSecret(ctx, "proxy-v2", map[string]string{"username": "proxy", "password": "second"}, true)
		referTo(ctx, "client", "client-v2")
		referTo(ctx, "proxy", "proxy-v2")
		s.reconcile(ctx, cache)
		expected["tls.crt"], expected["tls.key"], expected["proxy-password"] = []byte(client["tls.crt"]), []byte(client["tls.key"]), []byte("second")
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(secret)(ctx)).To(Succeed())
			g.Expect(secret.Data).To(Equal(expected))
		}).Should(Succeed())
		Expect(get(statefulSet)(ctx)).To(Succeed())
		Expect(statefulSet.Generation).To(Equal(generation))

		By("Secrets that cannot be used")
		s.createSecret(ctx, "client-v3", map[string]string{"tls.crt": client["tls.crt"], "tls.key": clientCertificate()["tls.key"]}, true)
		s.createSecret(ctx, "proxy-v3", map[string]string{"username": "hunter2"}, true)
		referTo(ctx, "client", "client-v3")
		referTo(ctx, "proxy", "proxy-v3")
		lastError := s.reconcileWithError(ctx, cache)
		Expect(lastError.Codes).To(ConsistOf(gardencorev1beta1.ErrorConfigurationProblem))
		Expect(lastError.Description).To(And(
			ContainSubstring("cache private.example.com"), ContainSubstring(`Secret "client-v3"`), ContainSubstring(`must contain the private key of the first certificate`),
			ContainSubstring(`Secret "proxy-v3"`), ContainSubstring(`must have the key "password"`), Not(ContainSubstring("hunter2"))))
		Consistently(ctx, func(g Gomega) {
			g.Expect(get(secret)(ctx)).To(Succeed())
			g.Expect(secret.Data).To(Equal(expected))
			g.Expect(get(statefulSet)(ctx)).To(Succeed())
			g.Expect(statefulSet.Generation).To(Equal(generation))
		}).Should(Succeed())

		By("Removal")
		s.reconcile(ctx, v1alpha3.RegistryCache{Upstream: cache.Upstream})
		Eventually(ctx, get(secret)).Should(beNotFound())
		Expect(get(resources)(ctx)).To(Succeed())
		Expect(resources.Spec.SecretRefs).To(HaveLen(1))
	})

	It("waits for Secrets that are about to be copied to the seed", func(ctx SpecContext) {
		cache = v1alpha3.RegistryCache{Upstream: cache.Upstream, CABundleSecretReferenceName: new("ca")}
		s.refer(ctx, "ca", "ca-v1", nil)
		go func() {
			defer GinkgoRecover()
			extension := s.extension()
			Eventually(ctx, func(g Gomega) {
				g.Expect(get(extension)(ctx)).To(Succeed())
				g.Expect(extension.Status.LastOperation).To(HaveValue(HaveField("State", gardencorev1beta1.LastOperationStateProcessing)))
			}).Should(Succeed())
			s.createSecret(ctx, "ca-v1", map[string]string{"bundle.crt": string(authority.Certificate)}, true)
		}()
		s.reconcile(ctx, cache)
		Eventually(ctx, get(inShoot(&corev1.Secret{}, name+"-connection"))).Should(Succeed())
	})
})
