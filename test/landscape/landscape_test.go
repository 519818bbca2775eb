// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package landscape

import (
	"net/netip"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("Landscape", func() {
	open := func(dir string) *Landscape {
		GinkgoT().Setenv(DirVariable, dir)
		l, err := Open()
		Expect(err).NotTo(HaveOccurred())
		return l
	}

	It("is the repository's own unless the environment names another one", func() {
		l := open("")
		Expect(l.Dir()).To(Equal(filepath.Join(l.Repository(), "dev", "landscape")))
		Expect(filepath.Join(l.Repository(), "go.mod")).To(BeARegularFile())
	})

	It("does not collide with the landscapes of other directories", func() {
		first, second := open("/one").ID(), open("/two").ID()
		Expect(first).NotTo(Equal(second))
		Expect(len(first)).To(BeNumerically("<=", 15), "it is also the name of a link")
	})

	It("has siblings in directories beside its own", func() {
		first := open("/one")
		Expect(first.Sibling(1)).To(HaveField("Dir()", "/one"))
		Expect(first.Sibling(2)).To(HaveField("Dir()", "/one-2"))
	})

	It("is the same through every path", func() {
		dir := GinkgoT().TempDir()
		link := filepath.Join(dir, "link")
		Expect(os.Symlink(filepath.Join(dir, "real"), link)).To(Succeed())
		Expect(os.Mkdir(filepath.Join(dir, "real"), 0o750)).To(Succeed())
		Expect(open(filepath.Join(link, "new")).ID()).To(Equal(open(filepath.Join(dir, "real", "new")).ID()))
	})

	It("stores its addresses", func() {
		dir := GinkgoT().TempDir()
		l := open(dir)
		Expect(l.IP()).To(BeEmpty())
		Expect(l.SetNetwork(Network{Subnet: netip.MustParsePrefix("192.0.2.4/30")})).To(Succeed())

		again := open(dir)
		Expect(again.IP()).To(Equal("192.0.2.6"))
		Expect(again.Network().Host().String()).To(Equal("192.0.2.5"))
	})

	It("stores the users of the upstream registries", func() {
		l := open(GinkgoT().TempDir())
		Expect(os.Mkdir(l.PKIDir(), 0o750)).To(Succeed())
		Expect(l.CreateAccounts()).To(Succeed())
		puller, pullerPassword, err := l.Puller()
		Expect(err).NotTo(HaveOccurred())
		pusher, pusherPassword, err := l.Pusher()
		Expect(err).NotTo(HaveOccurred())
		Expect(puller).NotTo(Equal(pusher))
		Expect(pullerPassword).NotTo(Equal(pusherPassword))
		Expect(len(pullerPassword)).To(And(BeNumerically(">", 20), BeNumerically("<", 72)))
	})

	It("names the remedy if it does not run", func() {
		l := open(GinkgoT().TempDir())
		_, err := l.FirstProcess()
		Expect(err).To(MatchError(ErrNotRunning))
		Expect(err).To(MatchError(ContainSubstring("make up")))
		Expect(l.Command(GinkgoT().Context(), "true").Run()).To(MatchError(ErrNotRunning))
		Expect(l.StopProcess(GinkgoT().Context(), "etcd")).To(MatchError(ErrNotRunning))
	})

	DescribeTable("recognises the first process of a namespace",
		func(status string, expected bool) { Expect(isFirst(status)).To(Equal(expected)) },
		Entry("seen from the host", "Name:\tx\nNSpid:\t4711\t1\n", true),
		Entry("seen from inside", "Name:\tx\nNSpid:\t1\n", true),
		Entry("another process inside", "Name:\tx\nNSpid:\t4712\t2\n", false),
		Entry("a process of the host", "Name:\tx\nNSpid:\t4711\n", false),
		Entry("no such line", "Name:\tx\n", false),
	)
})
