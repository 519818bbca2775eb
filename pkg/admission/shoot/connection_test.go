// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot_test

import (
	"context"
	"sync/atomic"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/admission/shoot"
	"github.com/larder-project/larder/test/pki"
)

var _ = Describe("Connections of caches", func() {
	var (
		handler *shoot.Handler
		reads   atomic.Int32
	)

	BeforeEach(func() {
		scheme := runtime.NewScheme()
		Expect(corev1.AddToScheme(scheme)).To(Succeed())
		Expect(gardencorev1beta1.AddToScheme(scheme)).To(Succeed())
		authority, err := pki.NewAuthority("upstream")
		Expect(err).NotTo(HaveOccurred())
		client := func(name string, expires time.Duration) *corev1.Secret {
			pair, err := authority.Issue(pki.Request{CommonName: "cache", Lifetime: expires})
			Expect(err).NotTo(HaveOccurred())
			return newSecret(name, func(s *corev1.Secret) {
				s.Type, s.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key}
			})
		}
		reads.Store(0)
		reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
			newSecret("robot-v1"),
			newSecret("ca-v1", func(s *corev1.Secret) { s.Data = map[string][]byte{"bundle.crt": authority.Certificate} }),
			client("client-v1", 365*24*time.Hour), client("soon", 48*time.Hour), client("expired", -time.Hour),
		).WithInterceptorFuncs(countingReads(&reads)).Build()
		handler, err = shoot.NewHandler(admission.NewDecoder(scheme), reader)
		Expect(err).NotTo(HaveOccurred())
	})

	create := func(changes ...change) []string {
		GinkgoHelper()
		return causes(handler.Handle(context.Background(), review(newShoot(changes...), nil)))
	}
	all := config(`{"upstream":"quay.io","caBundleSecretReferenceName":"ca","clientCertificateSecretReferenceName":"client",` +
		`"proxy":{"httpsProxy":"http://proxy:3128","secretReferenceName":"robot"}}`)

	It("accepts valid Secrets", func() {
		Expect(create(all, resource("ca", "ca-v1"), resource("client", "client-v1"), resource("robot", "robot-v1"))).To(BeEmpty())
	})

	It("validates each Secret by its purpose, and reports all errors at once", func() {
		Expect(create(all, resource("ca", "robot-v1"), resource("client", "ca-v1"), resource("robot", "client-v1"))).To(ConsistOf(
			And(HavePrefix(configPath+".caches[0].caBundleSecretReferenceName: "), ContainSubstring(`must have the key "bundle.crt"`)),
			And(HavePrefix(configPath+".caches[0].caBundleSecretReferenceName: "), ContainSubstring("remove the others")),
			And(HavePrefix(configPath+".caches[0].clientCertificateSecretReferenceName: "), ContainSubstring("must be of type kubernetes.io/tls")),
			And(HavePrefix(configPath+".caches[0].clientCertificateSecretReferenceName: "), ContainSubstring(`must have the key "tls.crt"`)),
			And(HavePrefix(configPath+".caches[0].clientCertificateSecretReferenceName: "), ContainSubstring(`must have the key "tls.key"`)),
			And(HavePrefix(configPath+".caches[0].clientCertificateSecretReferenceName: "), ContainSubstring("remove the others")),
			And(HavePrefix(configPath+".caches[0].proxy.secretReferenceName: "), ContainSubstring("must be of type Opaque")),
			And(HavePrefix(configPath+".caches[0].proxy.secretReferenceName: "), ContainSubstring(`must have the key "username"`)),
			And(HavePrefix(configPath+".caches[0].proxy.secretReferenceName: "), ContainSubstring(`must have the key "password"`)),
			And(HavePrefix(configPath+".caches[0].proxy.secretReferenceName: "), ContainSubstring("remove the others")),
		))
	})

	It("names what is missing in spec.resources", func() {
		Expect(create(all)).To(ConsistOf(
			And(HavePrefix(configPath+".caches[0].caBundleSecretReferenceName: "), ContainSubstring("the Secret with the CA bundle")),
			And(HavePrefix(configPath+".caches[0].clientCertificateSecretReferenceName: "), ContainSubstring("the Secret with the client certificate")),
			And(HavePrefix(configPath+".caches[0].proxy.secretReferenceName: "), ContainSubstring("the Secret with the credential for the proxies")),
		))
	})

	It("reads a Secret once, however many caches use it and for whatever", func() {
		Expect(create(config(`{"upstream":"quay.io","secretReferenceName":"robot","caBundleSecretReferenceName":"robot"},`+
			`{"upstream":"ghcr.io","secretReferenceName":"robot","proxy":{"httpsProxy":"http://proxy:3128","secretReferenceName":"robot"}}`), resource("robot", "robot-v1"))).To(
			HaveEach(HavePrefix(configPath + ".caches[0].caBundleSecretReferenceName: ")))
		Expect(reads.Load()).To(BeEquivalentTo(1))
	})

	It("validates what an update starts to use, and nothing else", func() {
		before := newShoot(all, resource("ca", "robot-v1"), resource("client", "client-v1"), resource("robot", "robot-v1"))
		after := newShoot(all, resource("ca", "robot-v1"), resource("client", "expired"), resource("robot", "robot-v1"))
		Expect(causes(handler.Handle(context.Background(), review(after, before)))).To(ConsistOf(
			And(HavePrefix(configPath+".caches[0].clientCertificateSecretReferenceName: "), ContainSubstring("the certificate expired on"))))
		Expect(reads.Load()).To(BeEquivalentTo(1))
	})

	DescribeTable("warns", func(cache, secret string, expected ...string) {
		response := handler.Handle(context.Background(), review(newShoot(config(cache), resource("entry", secret)), nil))
		Expect(response.Allowed).To(BeTrue())
		var matchers []any
		for _, text := range expected {
			matchers = append(matchers, And(HavePrefix(text), WithTransform(func(text string) int { return len(text) }, BeNumerically("<=", 256))))
		}
		Expect(response.Warnings).To(ConsistOf(matchers...))
	},
		Entry("about a CA bundle for plain HTTP", `{"upstream":"quay.io","remoteURL":"http://quay.io","caBundleSecretReferenceName":"entry"}`, "ca-v1",
			"cache quay.io: the CA bundle has no effect on the connection to the registry"),
		Entry("about a credential in plain text to a proxy", `{"upstream":"quay.io","proxy":{"httpsProxy":"http://proxy","secretReferenceName":"entry"}}`, "robot-v1",
			"cache quay.io: the credential for the proxy is sent unencrypted"),
		Entry("about a certificate that expires soon", `{"upstream":"quay.io","clientCertificateSecretReferenceName":"entry"}`, "soon",
			"Secret soon: the client certificate expires on "+time.Now().Add(48*time.Hour).UTC().Format(time.DateOnly)),
		Entry("of nothing for a CA bundle", `{"upstream":"quay.io","caBundleSecretReferenceName":"entry"}`, "ca-v1"),
		Entry("of nothing for a client certificate", `{"upstream":"quay.io","clientCertificateSecretReferenceName":"entry"}`, "client-v1"),
		Entry("of nothing for a proxy with HTTPS", `{"upstream":"quay.io","proxy":{"httpsProxy":"https://proxy","secretReferenceName":"entry"}}`, "robot-v1"),
	)
})

// countingReads counts the objects that are read.
func countingReads(reads *atomic.Int32) interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			reads.Add(1)
			return c.Get(ctx, key, object, options...)
		},
	}
}
