// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sandbox

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/landscape"
)

var _ = Describe("A hosts file", func() {
	DescribeTable("gets another name", func(before string) {
		path := filepath.Join(GinkgoT().TempDir(), "hosts")
		if before != "" {
			Expect(os.WriteFile(path, []byte(before), 0o600)).To(Succeed())
		}
		Expect(addHost(path, "10.43.0.1", "kube-apiserver")).To(Succeed())
		content, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(content)).To(And(HavePrefix(before), HaveSuffix("\n10.43.0.1 kube-apiserver\n")))
	},
		Entry("after a complete line", "127.0.0.1 localhost\n"),
		Entry("after an incomplete line", "127.0.0.1 localhost"),
		Entry("as the first one", ""),
	)
})

var _ = Describe("Choosing a subnet", func() {
	pool := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}
	prefixes := func(texts ...string) (parsed []netip.Prefix) {
		for _, text := range texts {
			parsed = append(parsed, netip.MustParsePrefix(text))
		}
		return parsed
	}

	It("is deterministic for each landscape", func() {
		first, err := choose(pools, nil, "larder-1")
		Expect(err).NotTo(HaveOccurred())
		second, err := choose(pools, nil, "larder-1")
		Expect(err).NotTo(HaveOccurred())
		Expect(first).To(Equal(second))
		Expect(first.Bits()).To(Equal(30))
	})

	It("finds the only free subnet", func() {
		subnet, err := choose(pool, prefixes("192.0.2.0/30", "192.0.2.5/32", "192.0.2.12/30", "10.0.0.0/8"), "any")
		Expect(err).NotTo(HaveOccurred())
		Expect(subnet).To(Equal(netip.MustParsePrefix("192.0.2.8/30")))
	})

	It("waits for other landscapes that choose one", func(ctx context.Context) {
		unlock, err := LockNetworks(ctx)
		Expect(err).NotTo(HaveOccurred())
		impatient, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err = LockNetworks(impatient)
		Expect(err).To(MatchError(context.DeadlineExceeded))

		time.AfterFunc(50*time.Millisecond, unlock)
		unlock, err = LockNetworks(ctx)
		Expect(err).NotTo(HaveOccurred())
		unlock()
	}, SpecTimeout(time.Minute))

	It("fails without a free subnet", func() {
		_, err := choose(pool, prefixes("192.0.2.0/24"), "any")
		Expect(err).To(MatchError(ContainSubstring("all networks")))
	})
})

var _ = Describe("The directory", func() {
	open := func(dir string) *landscape.Landscape {
		GinkgoT().Setenv(landscape.DirVariable, dir)
		l, err := landscape.Open()
		Expect(err).NotTo(HaveOccurred())
		return l
	}

	It("is removed with its content", func() {
		l := open(filepath.Join(GinkgoT().TempDir(), "new", "landscape"))
		Expect(CreateDir(l)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(l.Dir(), "file"), nil, 0o600)).To(Succeed())
		Expect(removeDir(l)).To(BeTrue())
		Expect(l.Dir()).NotTo(BeADirectory())
		Expect(removeDir(l)).To(BeFalse(), "nothing is left to remove")
	})

	It("is never that of another program", func() {
		l := open(GinkgoT().TempDir())
		precious := filepath.Join(l.Dir(), "precious")
		Expect(os.WriteFile(precious, nil, 0o600)).To(Succeed())
		_, err := removeDir(l)
		Expect(err).To(MatchError(ContainSubstring("refusing to remove it")))
		Expect(precious).To(BeARegularFile())
	})
})
