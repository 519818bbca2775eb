// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

var (
	now     = time.Now()
	caKey   = newKey()
	ca      = newCertificate(now.Add(time.Hour))
	otherCA = newCertificate(now.Add(time.Hour))
	expired = newCertificate(now.Add(-time.Hour))
	// privateKey looks like one, which is enough: PEM decoders do not interpret blocks.
	privateKey = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hunter2")})
)

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newCertificate(notAfter time.Time) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "hunter2"},
		NotBefore: notAfter.Add(-2 * time.Hour), NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newCABundle(parts ...any) *corev1.Secret {
	var bundle []byte
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			bundle = append(bundle, part...)
		case []byte:
			bundle = append(bundle, part...)
		}
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "garden-dev", Name: "ca-v1"},
		Immutable:  new(true),
		Data:       map[string][]byte{"bundle.crt": bundle},
	}
}

func messages(errs []error) []string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return texts
}

var _ = Describe("CA bundles", func() {
	validate := func(secret *corev1.Secret) []string {
		return messages(ownersecret.ValidateCABundle(secret, now, fldPath).ToAggregate().Errors())
	}

	DescribeTable("valid ones are kept byte for byte",
		func(parts ...any) {
			secret := newCABundle(parts...)
			Expect(ownersecret.ValidateCABundle(secret, now, fldPath)).To(BeEmpty())
			bundle, errs := ownersecret.CABundle(secret, fldPath)
			Expect(errs).To(BeEmpty())
			Expect(bundle).To(Equal(secret.Data["bundle.crt"]))
		},
		Entry("one certificate", ca),
		Entry("several certificates", ca, otherCA, ca),
		Entry("without a line break at the end", bytes.TrimSpace(ca)),
		Entry("white space around certificates", "\n \t\n", ca, "\r\n\n", otherCA, "\n\n"),
		Entry("line breaks of Windows", bytes.ReplaceAll(ca, []byte("\n"), []byte("\r\n"))),
		Entry("one certificate has expired", expired, ca),
		Entry("the certificate is not valid yet", newCertificate(now.Add(24*time.Hour))),
	)

	It("may be of any type", func() {
		secret := newCABundle(ca)
		secret.Type = "example.com/ca"
		Expect(ownersecret.ValidateCABundle(secret, now, fldPath)).To(BeEmpty())
	})

	DescribeTable("invalid ones are refused",
		func(secret *corev1.Secret, expected string) {
			Expect(validate(secret)).To(ConsistOf(And(
				HavePrefix(`spec.resources[0]: Invalid value: "garden-dev/ca-v1": the referenced Secret `),
				ContainSubstring(expected), Not(ContainSubstring("hunter2")), Not(ContainSubstring("MII")),
			)))
			bundle, errs := ownersecret.CABundle(secret, fldPath)
			Expect(bundle).To(BeNil())
			Expect(messages(errs.ToAggregate().Errors())).To(ConsistOf(ContainSubstring(expected)))
		},
		Entry("empty", newCABundle(), "at least one certificate"),
		Entry("blank", newCABundle(" \n"), "at least one certificate"),
		Entry("no PEM", newCABundle("hunter2"), "at least one certificate"),
		Entry("DER", newCABundle("\x30\x82\x01\x00"), "at least one certificate"),
		Entry("truncated", newCABundle(ca[:len(ca)-40]), "at least one certificate"),
		Entry("private key", newCABundle(privateKey), "no private keys"),
		Entry("trusted certificate of OpenSSL", newCABundle(bytes.ReplaceAll(ca, []byte("CERTIFICATE"), []byte("TRUSTED CERTIFICATE"))), "PEM block 1 is not a certificate"),
		Entry("PEM headers", newCABundle(bytes.Replace(ca, []byte("-----\n"), []byte("-----\nPassword: hunter2\n\n"), 1)), "certificate 1 has PEM headers"),
	)

	DescribeTable("other blocks beside a certificate are refused at first, and never reach nodes",
		func(secret *corev1.Secret, expected string) {
			Expect(validate(secret)).To(ConsistOf(And(ContainSubstring(expected), Not(ContainSubstring("hunter2")), Not(ContainSubstring("MII")))))
			bundle, errs := ownersecret.CABundle(secret, fldPath)
			Expect(errs).To(BeEmpty())
			Expect(bundle).To(Equal(ca))
		},
		Entry("private key after a certificate", newCABundle(ca, privateKey), "PEM block 2 is not a certificate"),
		Entry("private key before a certificate", newCABundle(privateKey, ca), "PEM block 1 is not a certificate"),
		Entry("no certificate in a block", newCABundle(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hunter2")})), "certificate 2 cannot be parsed"),
		Entry("revocation list", newCABundle(ca, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("hunter2")})), "PEM block 2 is not a certificate"),
		Entry("trusted certificate of OpenSSL", newCABundle(bytes.ReplaceAll(otherCA, []byte("CERTIFICATE"), []byte("TRUSTED CERTIFICATE")), ca), "PEM block 1 is not a certificate"),
		Entry("PEM headers", newCABundle(ca, bytes.Replace(otherCA, []byte("-----\n"), []byte("-----\nPassword: hunter2\n\n"), 1)), "certificate 2 has PEM headers"),
	)

	It("keeps the bundle of a Secret that is not immutable or has other keys", func() {
		secret := newCABundle(ca)
		secret.Immutable, secret.Data["tls.key"] = nil, privateKey
		Expect(validate(secret)).To(ConsistOf(ContainSubstring("must be immutable"), ContainSubstring(`must have only the key "bundle.crt"`)))
		bundle, errs := ownersecret.CABundle(secret, fldPath)
		Expect(errs).To(BeEmpty())
		Expect(bundle).To(Equal(ca))
	})

	DescribeTable("text is refused at first, and never reaches nodes",
		func(parts ...any) {
			secret := newCABundle(parts...)
			Expect(validate(secret)).To(ConsistOf(And(ContainSubstring("remove all text around them"), Not(ContainSubstring("hunter2")))))
			bundle, errs := ownersecret.CABundle(secret, fldPath)
			Expect(errs).To(BeEmpty())
			Expect(bundle).To(Equal(ca))
		},
		Entry("before", "hunter2\n", ca),
		Entry("after", ca, "hunter2"),
		Entry("a damaged private key before", privateKey[:len(privateKey)-20], "\n", ca),
		Entry("a damaged private key after", ca, privateKey[:len(privateKey)-20]),
		Entry("a byte order mark", "\xef\xbb\xbf\n", ca),
		Entry("zero bytes", ca, "\x00"),
		Entry("an indented certificate, which decoders skip", " ", otherCA, ca),
	)

	It("does not show other keys, and reports all errors at once", func() {
		secret := newCABundle(privateKey)
		secret.Immutable, secret.Data["hunter2"] = nil, nil
		Expect(validate(secret)).To(ConsistOf(
			ContainSubstring("must be immutable"), ContainSubstring(`must have only the key "bundle.crt"`), ContainSubstring("no private keys"),
		))
		Expect(validate(secret)).To(HaveEach(Not(ContainSubstring("hunter2"))))
	})

	It("requires the key", func() {
		secret := newCABundle()
		secret.Data = map[string][]byte{"ca.crt": ca}
		Expect(validate(secret)).To(ConsistOf(ContainSubstring(`must have the key "bundle.crt"`), ContainSubstring("remove the others")))
		secret.Data = nil
		Expect(validate(secret)).To(ConsistOf(ContainSubstring(`must have the key "bundle.crt"`)))
	})

	It("refuses new ones that are too large or have expired, but keeps running ones", func() {
		for message, secret := range map[string]*corev1.Secret{
			"at most 32768 bytes":     newCABundle(ca, strings.Repeat("\n", 32<<10)),
			"at most 50 certificates": newCABundle(bytes.Repeat(ca, 51)),
			"have expired":            newCABundle(expired),
		} {
			Expect(validate(secret)).To(ConsistOf(ContainSubstring(message)))
			bundle, errs := ownersecret.CABundle(secret, fldPath)
			Expect(errs).To(BeEmpty())
			Expect(bundle).To(Equal(secret.Data["bundle.crt"]))
		}
	})

	DescribeTable("hostile ones cost little",
		func(unit string) {
			secret := newCABundle(strings.Repeat(unit, 1<<20/len(unit)))
			start := time.Now()
			Expect(validate(secret)).To(ConsistOf(ContainSubstring("at most 32768 bytes")))
			_, errs := ownersecret.CABundle(secret, fldPath)
			Expect(errs).NotTo(BeEmpty())
			Expect(time.Since(start)).To(BeNumerically("<", time.Minute), "a guard against runaway work, not a figure")
		},
		Entry("beginnings", "-----BEGIN CERTIFICATE-----\n"),
		Entry("different beginnings", "-----BEGIN A-----\n-----END B-----\n"),
		Entry("empty blocks", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
		Entry("headers", "-----BEGIN CERTIFICATE-----\na: b\n"),
		Entry("dashes", "-"),
		Entry("zeros", "\x00"),
	)
})

// FuzzCABundle checks that an accepted bundle contains nothing but certificates, and that no error shows its content.
func FuzzCABundle(f *testing.F) {
	for _, seed := range [][]byte{ca, privateKey, bytes.ReplaceAll(ca, []byte("\n"), []byte("\r\n")), []byte("hunter2")} {
		f.Add(seed, []byte("\n"))
		f.Add(seed, ca)
		f.Add(ca, seed)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		secret := newCABundle(first, second)
		if err := ownersecret.ValidateCABundle(secret, now, fldPath).ToAggregate(); err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the bundle: %s", err)
		}
		bundle, errs := ownersecret.CABundle(secret, fldPath)
		if len(errs) > 0 {
			return
		}
		for rest := bundle; len(bytes.TrimSpace(rest)) > 0; {
			block, after := pem.Decode(rest)
			if block == nil || block.Type != "CERTIFICATE" || !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("-----BEGIN CERTIFICATE-----")) {
				t.Fatalf("%q has more than certificates", bundle)
			}
			rest = after
		}
	})
}
