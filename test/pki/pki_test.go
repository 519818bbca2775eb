// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/x509"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/pki"
)

var _ = Describe("Authority", func() {
	It("issues certificates for its servers and clients", func() {
		authority, err := pki.NewAuthority("test")
		Expect(err).NotTo(HaveOccurred())
		authority, err = pki.ParseAuthority(authority.Pair)
		Expect(err).NotTo(HaveOccurred())
		issued, err := authority.Issue(pki.Request{
			CommonName: "system:node:node", Organizations: []string{"system:nodes"},
			Hosts: []string{"node.larder.test", "192.0.2.2"},
		})
		Expect(err).NotTo(HaveOccurred())

		pair, err := issued.TLS()
		Expect(err).NotTo(HaveOccurred())
		Expect(pair.Leaf.Subject.CommonName).To(Equal("system:node:node"))
		Expect(pair.Leaf.Subject.Organization).To(ConsistOf("system:nodes"))
		pool := authority.Pool()
		for _, host := range []string{"node.larder.test", "192.0.2.2"} {
			_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host})
			Expect(err).NotTo(HaveOccurred())
		}
		_, err = pair.Leaf.Verify(x509.VerifyOptions{
			Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		Expect(err).NotTo(HaveOccurred())
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "other.larder.test"})
		Expect(err).To(HaveOccurred())
	})

	It("rejects the key of another authority", func() {
		first, err := pki.NewAuthority("first")
		Expect(err).NotTo(HaveOccurred())
		second, err := pki.NewAuthority("second")
		Expect(err).NotTo(HaveOccurred())
		_, err = pki.ParseAuthority(pki.Pair{Certificate: first.Certificate, Key: second.Key})
		Expect(err).To(MatchError(ContainSubstring("read certificate authority")))
	})
})
