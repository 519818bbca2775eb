// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus/hooks/test"

	cacheconfig "github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/pki"
)

var zeros = strings.Repeat("0", 64)

func hashOf(text string) password { return password{sum: sha256.Sum256([]byte(text))} }

var _ = Describe("Accounts", func() {
	now := time.Now()
	DescribeTable("may read", func(repositories []string, repository string, expected bool) {
		content, err := cacheconfig.Accounts{Accounts: []cacheconfig.Account{{
			Name: "a", Repositories: repositories, Passwords: []cacheconfig.PasswordHash{cacheconfig.HashPassword("p", nil)},
		}}}.Marshal()
		Expect(err).NotTo(HaveOccurred())
		parsed, err := parseAccounts(content)
		Expect(err).NotTo(HaveOccurred())
		Expect(parsed["larder.a"].mayRead(repository)).To(Equal(expected))
	},
		Entry("a listed repository", []string{"team/app"}, "team/app", true),
		Entry("one below it", []string{"team"}, "team/app/base", true),
		Entry("no repository whose name only starts the same", []string{"team"}, "team-b/app", false),
		Entry("no parent", []string{"team/app"}, "team", false),
		Entry("no other one", []string{"team/app", "library"}, "team/other", false),
		Entry("all with the wildcard", []string{"*"}, "any/thing", true),
		Entry("not the empty repository", []string{"team"}, "", false),
	)

	It("accept the current password, and the previous one until it expires", func() {
		previous := hashOf("previous")
		previous.expires = now.Add(time.Hour)
		a := account{passwords: []password{hashOf("current"), previous}}
		Expect(a.accepts("current", now)).To(BeTrue())
		Expect(a.accepts("previous", now)).To(BeTrue())
		Expect(a.accepts("previous", now.Add(time.Hour))).To(BeFalse())
		Expect(a.accepts("other", now)).To(BeFalse())
		Expect(a.accepts("", now)).To(BeFalse())
		Expect(account{}.accepts("", now)).To(BeFalse())
	})

	It("follow their file, and keep the last content that can be used", func() {
		path := filepath.Join(GinkgoT().TempDir(), "accounts.json")
		write := func(content string) {
			Expect(os.WriteFile(path+".new", []byte(content), 0o600)).To(Succeed())
			Expect(os.Rename(path+".new", path)).To(Succeed())
		}
		entry := func(name string) string {
			return fmt.Sprintf(`{"accounts":[{"name":%q,"repositories":["*"],"passwords":[{"sha256":%q}]}]}`, name, zeros)
		}
		log, hook := test.NewNullLogger()
		write(entry("first"))
		f, err := open(path, log, parseAccounts)
		Expect(err).NotTo(HaveOccurred())
		Expect(f.get()).To(HaveKey("larder.first"))
		write(entry("second"))
		Expect(f.get()).To(And(HaveLen(1), HaveKey("larder.second")))
		write(`{"accounts":[{"name":"third","s3cret":"x"}]}`)
		Expect(f.get()).To(HaveKey("larder.second"))
		Expect(f.get()).To(HaveKey("larder.second"))
		Expect(hook.AllEntries()).To(HaveLen(1))
		line, err := hook.LastEntry().String()
		Expect(err).NotTo(HaveOccurred())
		Expect(line).NotTo(ContainSubstring("s3cret"))
		Expect(os.Remove(path)).To(Succeed())
		Expect(f.get()).To(HaveKey("larder.second"))
		write(entry("fourth"))
		Expect(f.get()).To(HaveKey("larder.fourth"))
	})
})

var _ = Describe("Certificates of nodes", func() {
	var (
		old, renewed *pki.Authority
		path         string
		n            *nodes
	)
	trust := func(authorities ...*pki.Authority) {
		var bundle []byte
		for _, authority := range authorities {
			bundle = append(bundle, authority.Certificate...)
		}
		Expect(os.WriteFile(path+".new", bundle, 0o600)).To(Succeed())
		Expect(os.Rename(path+".new", path)).To(Succeed())
	}
	issue := func(authority *pki.Authority, usages ...x509.ExtKeyUsage) *tls.ConnectionState {
		pair, err := authority.Issue(pki.Request{CommonName: "node", Usages: usages})
		Expect(err).NotTo(HaveOccurred())
		certificate, err := pair.TLS()
		Expect(err).NotTo(HaveOccurred())
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate.Leaf}}
	}

	BeforeEach(func() {
		var err error
		old, err = pki.NewAuthority("old")
		Expect(err).NotTo(HaveOccurred())
		renewed, err = pki.NewAuthority("new")
		Expect(err).NotTo(HaveOccurred())
		path = filepath.Join(GinkgoT().TempDir(), "ca.crt")
		trust(old)
		log, _ := test.NewNullLogger()
		authorities, err := open(path, log, parseBundle)
		Expect(err).NotTo(HaveOccurred())
		n = newNodes(authorities)
	})

	It("admit those of the old and the new authority while both are trusted, and no longer", func() {
		now := time.Now()
		ofOld, ofNew := issue(old, x509.ExtKeyUsageClientAuth), issue(renewed, x509.ExtKeyUsageClientAuth)
		for range 2 {
			Expect(n.admits(ofOld, now)).To(BeTrue())
			Expect(n.admits(ofNew, now)).To(BeFalse())
		}
		trust(old, renewed)
		Expect(n.admits(ofOld, now)).To(BeTrue())
		Expect(n.admits(ofNew, now)).To(BeTrue())
		trust(renewed)
		Expect(n.admits(ofOld, now)).To(BeFalse(), "although its verification was remembered")
		Expect(n.admits(ofNew, now)).To(BeTrue())
	})

	It("admit no certificate of a server, and none that has expired since", func() {
		now := time.Now()
		Expect(n.admits(issue(old, x509.ExtKeyUsageServerAuth), now)).To(BeFalse())
		valid := issue(old, x509.ExtKeyUsageClientAuth)
		Expect(n.admits(valid, now)).To(BeTrue())
		Expect(n.admits(valid, valid.PeerCertificates[0].NotAfter.Add(time.Second))).To(BeFalse())
		Expect(n.admits(valid, valid.PeerCertificates[0].NotBefore.Add(-time.Second))).To(BeFalse())
	})

	It("are not verified again at once if they were refused", func() {
		now := time.Now()
		refused := issue(renewed, x509.ExtKeyUsageClientAuth)
		for range 3 {
			Expect(n.admits(refused, now)).To(BeFalse())
		}
		Expect(n.failed.Len()).To(Equal(1))
		withIntermediate := &tls.ConnectionState{PeerCertificates: append(refused.PeerCertificates, refused.PeerCertificates[0])}
		Expect(n.admits(withIntermediate, now)).To(BeFalse())
		Expect(n.failed.Len()).To(Equal(2), "another chain is verified by itself")
		Expect(n.admits(refused, refused.PeerCertificates[0].NotBefore.Add(-time.Second))).To(BeFalse())

		valid := issue(old, x509.ExtKeyUsageClientAuth)
		Expect(n.admits(valid, valid.PeerCertificates[0].NotBefore.Add(-time.Second))).To(BeFalse())
		Expect(n.admits(valid, now)).To(BeTrue(), "one that was not valid yet is verified again")
	})

	It("admit no connection without one", func() {
		Expect(n.admits(nil, time.Now())).To(BeFalse())
		Expect(n.admits(&tls.ConnectionState{}, time.Now())).To(BeFalse())
	})

	It("keep their authorities if a new bundle is incomplete", func() {
		valid := issue(old, x509.ExtKeyUsageClientAuth)
		for _, content := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"} {
			Expect(os.WriteFile(path, []byte(content), 0o600)).To(Succeed())
			Expect(n.admits(valid, time.Now())).To(BeTrue())
		}
	})
})

var _ = Describe("Guests", func() {
	It("keep credentials by repository, the latest first, until their grants end", func() {
		g, now := NewGuests(), time.Now()
		g.now = func() time.Time { return now.Add(-time.Second) }
		named := func(name string) credentials.Credential {
			return credentials.Credential{Username: name, Password: name}
		}
		for i := range 6 {
			g.add("a", payer{id: identity{byte(i + 1)}, credential: named(fmt.Sprint(i)), until: now.Add(time.Duration(i) * time.Minute)})
		}
		_, ok := g.For("b", nil)
		Expect(ok).To(BeFalse())
		var offered []credentials.Credential
		for {
			c, ok := g.For("a", offered)
			if !ok {
				break
			}
			offered = append(offered, c)
		}
		Expect(offered).To(Equal([]credentials.Credential{named("5"), named("4"), named("3"), named("2")}))
		var revoked []identity
		g.rejected = func(h holder) { revoked = append(revoked, h.client) }
		g.Rejected("a", named("5"))
		g.Rejected("a", named("5"))
		g.Rejected("b", named("4"))
		Expect(revoked).To(Equal([]identity{{6}}))
		g.expire(now.Add(3 * time.Minute))
		left, _ := g.For("a", nil)
		Expect(left).To(Equal(named("4")))
		g.expire(now.Add(4 * time.Minute))
		_, ok = g.For("a", nil)
		Expect(ok).To(BeFalse())
		Expect(g.byRepository.Len()).To(BeZero())
	})
})
