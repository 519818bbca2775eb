// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/larder-project/larder/test/pki"
)

var _ = Describe("Validation of the connections of caches", func() {
	const (
		cachePath = cachesPath + "[0]"
		connected = `{"upstream":"private.example.com","caBundleSecretReferenceName":"ca","clientCertificateSecretReferenceName":"client",` +
			`"allowedRealms":["auth.example.org"],"timeouts":{"firstByte":"2m"},` +
			`"proxy":{"httpsProxy":"http://proxy.example.com:3128","noProxy":[".example.org","10.0.0.0/8"],"secretReferenceName":"robot"}}`
	)
	authority, err := pki.NewAuthority("upstream")
	if err != nil {
		panic(err)
	}
	newClientSecret := func(changes ...func(*corev1.Secret)) *corev1.Secret {
		GinkgoHelper()
		pair, err := authority.Issue(pki.Request{CommonName: "hunter2"})
		Expect(err).NotTo(HaveOccurred())
		return newSecret(append([]func(*corev1.Secret){func(s *corev1.Secret) {
			s.GenerateName, s.Type = "client-", corev1.SecretTypeTLS
			s.Data = map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key}
		}}, changes...)...)
	}

	It("accepts all settings, and rotations of each Secret", func() {
		shoot := newShoot(caches(connected), resource(newCASecret(), "ca"), resource(newClientSecret(), "client"), resource(newSecret()))
		Expect(create(shoot)).To(Succeed())
		Expect(update(shoot, resource(newCASecret(), "ca"))).To(Succeed())
		Expect(update(shoot, resource(newClientSecret(), "client"))).To(Succeed())
		Expect(update(shoot, resource(newSecret()))).To(Succeed())
	})

	DescribeTable("refuses a Secret of a rotation:",
		func(entry, field string, secret func() *corev1.Secret, message string) {
			shoot := newShoot(caches(connected), resource(newCASecret(), "ca"), resource(newClientSecret(), "client"), resource(newSecret()))
			Expect(create(shoot)).To(Succeed())
			err := update(shoot, resource(secret(), entry))
			Expect(err).To(beDenied(cachePath+field, message))
			Expect(err).To(MatchError(Not(Or(ContainSubstring("MII"), ContainSubstring("BEGIN")))))
		},
		Entry("a mutable CA bundle", "ca", ".caBundleSecretReferenceName",
			func() *corev1.Secret { return newCASecret(func(s *corev1.Secret) { s.Immutable = nil }) }, "must be immutable"),
		Entry("expired CAs", "ca", ".caBundleSecretReferenceName",
			func() *corev1.Secret {
				return newCASecret(func(s *corev1.Secret) { s.Data["bundle.crt"] = newCABundle(-time.Hour) })
			}, "have expired"),
		Entry("a credential as a client certificate", "client", ".clientCertificateSecretReferenceName",
			func() *corev1.Secret { return newSecret() }, "must be of type kubernetes.io/tls"),
		Entry("another key in a client certificate", "client", ".clientCertificateSecretReferenceName",
			func() *corev1.Secret { return newClientSecret(func(s *corev1.Secret) { s.Data["ca.crt"] = nil }) }, "remove the others"),
		Entry("the key of another client certificate", "client", ".clientCertificateSecretReferenceName",
			func() *corev1.Secret {
				return newClientSecret(func(s *corev1.Secret) { s.Data["tls.key"] = newClientSecret().Data["tls.key"] })
			},
			"must contain the private key of the first certificate"),
		Entry("an encrypted key", "client", ".clientCertificateSecretReferenceName",
			func() *corev1.Secret {
				return newClientSecret(func(s *corev1.Secret) {
					s.Data["tls.key"] = []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n")
				})
			}, "without a passphrase"),
		Entry("an expired client certificate", "client", ".clientCertificateSecretReferenceName",
			func() *corev1.Secret {
				pair, err := authority.Issue(pki.Request{CommonName: "hunter2", Lifetime: -time.Minute})
				Expect(err).NotTo(HaveOccurred())
				return newClientSecret(func(s *corev1.Secret) { s.Data = map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key} })
			}, "the certificate expired on"),
		Entry("a line break in the password for a proxy", "robot", ".proxy.secretReferenceName",
			func() *corev1.Secret {
				return newSecret(func(s *corev1.Secret) { s.Data["password"] = []byte("hunter2\n") })
			}, "control characters"),
		Entry("a client certificate for a proxy", "robot", ".proxy.secretReferenceName",
			func() *corev1.Secret { return newClientSecret() }, `must have the key "username"`),
	)

	DescribeTable("refuses configurations:",
		func(text, field, message string) {
			Expect(create(newShoot(caches(text)))).To(beDenied(cachePath+field, message))
		},
		Entry("a credential in the URL of a proxy", `{"upstream":"quay.io","proxy":{"httpsProxy":"http://john:hunter2@proxy.example.com"}}`, ".proxy.httpsProxy", "see proxy.secretReferenceName"),
		Entry("a credential in noProxy", `{"upstream":"quay.io","proxy":{"httpsProxy":"http://proxy","noProxy":["john:hunter2@example.com"]}}`, ".proxy.noProxy[0]", "must be one host"),
		Entry("a credential in a realm", `{"upstream":"quay.io","allowedRealms":["john:hunter2@auth.example.org"]}`, ".allowedRealms[0]", "must be the host of a token server"),
		Entry("a client certificate for plain HTTP", `{"upstream":"quay.io","remoteURL":"http://quay.io","clientCertificateSecretReferenceName":"client"}`, ".clientCertificateSecretReferenceName", "over HTTPS only"),
		Entry("a credential for no proxy", `{"upstream":"quay.io","proxy":{"secretReferenceName":"robot"}}`, ".proxy.secretReferenceName", "there is no proxy"),
		Entry("a long wait", `{"upstream":"quay.io","timeouts":{"firstByte":"1h"}}`, ".timeouts.firstByte", "must be from 1s to 10m"),
		Entry("a hostile number", `{"upstream":"quay.io","timeouts":{"firstByte":"1e999999999h"}}`, ".timeouts.firstByte", "Invalid value"),
		Entry("many realms", `{"upstream":"quay.io","allowedRealms":[`+strings.Repeat(`"a",`, 10)+`"a"]}`, ".allowedRealms", "at most 10 items"),
		Entry("thousands of entries", `{"upstream":"quay.io","proxy":{"httpsProxy":"http://proxy","noProxy":[`+strings.Repeat(`"a",`, 10_000)+`"a"]}}`, ".proxy.noProxy", "more than 250 items"),
	)
})
