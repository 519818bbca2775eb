// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ports_test

import (
	"net"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/ports"
)

func TestReservedPortsCanBeListenedOnExplicitly(t *testing.T) {
	g := NewWithT(t)
	reserved, err := ports.Reserve()
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(reserved.Close()).To(Succeed()) })
	dial := func() error {
		connection, err := net.Dial("tcp", reserved.Address())
		if err == nil {
			err = connection.Close()
		}
		return err
	}
	for range 2 {
		g.Expect(dial()).To(MatchError(syscall.ECONNREFUSED))
		listener, err := reserved.Listen()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(listener.Addr().String()).To(Equal(reserved.Address()))
		g.Expect(dial()).To(Succeed())
		_, err = reserved.Listen()
		g.Expect(err).To(MatchError(syscall.EADDRINUSE))
		g.Expect(listener.Close()).To(Succeed())
	}
}

func TestReservedPortsAreNotAssignedToOthers(t *testing.T) {
	g := NewWithT(t)
	reserved := map[int]bool{}
	for range 200 {
		r, err := ports.Reserve()
		g.Expect(err).NotTo(HaveOccurred())
		t.Cleanup(func() { g.Expect(r.Close()).To(Succeed()) })
		g.Expect(reserved).NotTo(HaveKey(r.Port()))
		reserved[r.Port()] = true
	}
	for range 5000 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(reserved).NotTo(HaveKey(listener.Addr().(*net.TCPAddr).Port))
		g.Expect(listener.Close()).To(Succeed())
	}
}
