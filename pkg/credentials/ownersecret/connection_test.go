// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

// newClientCertificate returns a certificate for clients, and its key.
func newClientCertificate(notAfter time.Time, usages ...x509.ExtKeyUsage) ownersecret.KeyPair {
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hunter2"},
		NotBefore: notAfter.Add(-2 * time.Hour), NotAfter: notAfter, ExtKeyUsage: usages,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return ownersecret.KeyPair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
}

func newClientSecret(pair ownersecret.KeyPair, changes ...func(*corev1.Secret)) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "garden-dev", Name: "client-v1"},
		Type:       corev1.SecretTypeTLS,
		Immutable:  new(true),
		Data:       map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key},
	}
	for _, change := range changes {
		change(secret)
	}
	return secret
}

func set(key string, value []byte) func(*corev1.Secret) {
	return func(secret *corev1.Secret) { secret.Data[key] = value }
}

var _ = Describe("Client certificates", func() {
	var (
		later = now.Add(365 * 24 * time.Hour)
		valid = newClientCertificate(later)
		other = newClientCertificate(later)
	)
	validate := func(secret *corev1.Secret) []string {
		return messages(ownersecret.ValidateClientCertificate(secret, now, fldPath).ToAggregate().Errors())
	}

	DescribeTable("valid ones are kept byte for byte", func(pair ownersecret.KeyPair) {
		secret := newClientSecret(pair)
		Expect(ownersecret.ValidateClientCertificate(secret, now, fldPath)).To(BeEmpty())
		Expect(ownersecret.ClientCertificate(secret, fldPath)).To(Equal(pair))
	},
		Entry("without a usage", valid),
		Entry("for clients", newClientCertificate(later, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)),
		Entry("for everything", newClientCertificate(later, x509.ExtKeyUsageAny)),
		Entry("with a chain", ownersecret.KeyPair{Certificate: append(bytes.Clone(valid.Certificate), ca...), Key: valid.Key}),
	)

	DescribeTable("unusable ones are refused", func(change func(*corev1.Secret), expected string) {
		secret := newClientSecret(valid, change)
		Expect(validate(secret)).To(ConsistOf(And(
			HavePrefix(`spec.resources[0]: Invalid value: "garden-dev/client-v1": the referenced Secret `),
			ContainSubstring(expected), Not(ContainSubstring("hunter2")), Not(ContainSubstring("MI")),
		)))
		pair, errs := ownersecret.ClientCertificate(secret, fldPath)
		Expect(pair).To(Equal(ownersecret.KeyPair{}))
		Expect(messages(errs.ToAggregate().Errors())).To(ConsistOf(ContainSubstring(expected)))
	},
		Entry("no certificate", func(s *corev1.Secret) { delete(s.Data, "tls.crt") }, `must have the key "tls.crt"`),
		Entry("no key", func(s *corev1.Secret) { delete(s.Data, "tls.key") }, `must have the key "tls.key"`),
		Entry("an empty key, which the API server accepts", set("tls.key", nil), `must have the key "tls.key"`),
		Entry("no PEM", set("tls.crt", []byte("hunter2")), "must contain the certificate in PEM"),
		Entry("a block that is no certificate", set("tls.crt", privateKey), "must contain the certificate in PEM"),
		Entry("a damaged certificate", set("tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hunter2")})), "must contain the certificate in PEM"),
		Entry("no key in PEM", set("tls.key", []byte("hunter2")), "must contain the private key of the first certificate"),
		Entry("a damaged key", set("tls.key", privateKey), "must contain the private key of the first certificate"),
		Entry("the key of another certificate", set("tls.key", other.Key), "must contain the private key of the first certificate"),
		Entry("an encrypted key", set("tls.key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("hunter2")})), "store it without a passphrase"),
		Entry("a long certificate", set("tls.crt", bytes.Repeat([]byte("x"), 16<<10+1)), "at most 16384 bytes"),
		Entry("a long key", set("tls.key", bytes.Repeat([]byte("x"), 8<<10+1)), "at most 8192 bytes"),
	)

	DescribeTable("others are refused at first, but kept by running caches", func(pair ownersecret.KeyPair, change func(*corev1.Secret), expected string) {
		secret := newClientSecret(pair, change)
		Expect(validate(secret)).To(ConsistOf(And(ContainSubstring(expected), Not(ContainSubstring("hunter2")))))
		Expect(ownersecret.ClientCertificate(secret, fldPath)).To(Equal(ownersecret.KeyPair{Certificate: secret.Data["tls.crt"], Key: secret.Data["tls.key"]}))
	},
		Entry("a mutable Secret", valid, func(s *corev1.Secret) { s.Immutable = nil }, "must be immutable"),
		Entry("another type", valid, func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, "must be of type kubernetes.io/tls"),
		Entry("another key", valid, set("hunter2", ca), "remove the others"),
		Entry("an expired certificate", newClientCertificate(now.Add(-time.Hour)), func(*corev1.Secret) {}, "the certificate expired on "+now.Add(-time.Hour).UTC().Format(time.DateOnly)),
		Entry("a certificate for servers", newClientCertificate(later, x509.ExtKeyUsageServerAuth), func(*corev1.Secret) {}, "not for clients"),
		Entry("a private key beside the certificate", valid, set("tls.crt", append(bytes.Clone(valid.Certificate), privateKey...)), "no private keys"),
	)

	It("reports all errors at once", func() {
		Expect(validate(newClientSecret(other, set("tls.key", valid.Key), set("x", nil), func(s *corev1.Secret) { s.Immutable, s.Type = nil, "" }))).To(ConsistOf(
			ContainSubstring("must be immutable"), ContainSubstring("must be of type"), ContainSubstring("remove the others"), ContainSubstring("private key of the first certificate")))
	})

	DescribeTable("are reported when they expire soon", func(notAfter time.Time, expected bool) {
		_, soon := ownersecret.ClientCertificateExpiry(newClientSecret(newClientCertificate(notAfter)), now)
		Expect(soon).To(Equal(expected))
	},
		Entry("in a year", later, false),
		Entry("in more than 30 days", now.Add(ownersecret.ExpiresSoon+time.Hour), false),
		Entry("in less than 30 days", now.Add(ownersecret.ExpiresSoon-time.Hour), true),
		Entry("already, which is an error", now.Add(-time.Hour), false),
	)
})

var _ = Describe("Credentials for proxies", func() {
	validate := func(secret *corev1.Secret) []string {
		return messages(ownersecret.ValidateProxyCredential(secret, fldPath).ToAggregate().Errors())
	}

	It("accepts a user name and a password, and keeps them byte for byte", func() {
		for _, secretType := range []corev1.SecretType{corev1.SecretTypeOpaque, corev1.SecretTypeBasicAuth, ""} {
			secret := newSecret("john@example.com", " hunter2: \"#%*é")
			secret.Type = secretType
			Expect(ownersecret.ValidateProxyCredential(secret, fldPath)).To(BeEmpty())
			Expect(ownersecret.ProxyCredential(secret, fldPath)).To(Equal(credentials.Credential{Username: "john@example.com", Password: " hunter2: \"#%*é"}))
		}
	})

	It("is not a key of a Google service account", func() {
		Expect(ownersecret.ValidateProxyCredential(newSecret("_json_key", "hunter2"), fldPath)).To(BeEmpty())
	})

	DescribeTable("refuses", func(username, password string, change func(*corev1.Secret), expected string) {
		secret := newSecret(username, password)
		change(secret)
		Expect(validate(secret)).To(ConsistOf(And(ContainSubstring(expected), Not(ContainSubstring("hunter2")))))
	},
		Entry("a colon in the user name", "jo:hn", "hunter2", func(*corev1.Secret) {}, `the key "username"`),
		Entry("an empty user name", "", "hunter2", func(*corev1.Secret) {}, `the key "username"`),
		Entry("a line break in the user name", "john\n", "hunter2", func(*corev1.Secret) {}, `the key "username"`),
		Entry("a blank password", "john", " ", func(*corev1.Secret) {}, `the key "password"`),
		Entry("a line break in the password", "john", "hunter2\n", func(*corev1.Secret) {}, `the key "password"`),
		Entry("a long password", "john", strings.Repeat("hunter2", 1000), func(*corev1.Secret) {}, "at most 4096 bytes"),
		Entry("no password", "john", "", func(s *corev1.Secret) { delete(s.Data, "password") }, `must have the key "password"`),
		Entry("no user name", "", "hunter2", func(s *corev1.Secret) { delete(s.Data, "username") }, `must have the key "username"`),
		Entry("another key", "john", "hunter2", set("hunter2", nil), "remove the others"),
		Entry("a mutable Secret", "john", "hunter2", func(s *corev1.Secret) { s.Immutable = nil }, "must be immutable"),
		Entry("another type", "john", "hunter2", func(s *corev1.Secret) { s.Type = corev1.SecretTypeTLS }, "must be of type Opaque or kubernetes.io/basic-auth"),
	)
})
