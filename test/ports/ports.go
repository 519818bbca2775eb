// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package ports reserves ports of the loopback interface for servers that start later or restart.
//
// A port that is found by listening on it and then released can be taken by another process before the server listens.
package ports

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Reservation is a port that Linux assigns only on explicit request: a socket is bound to it that never listens.
// Connections are refused while no server listens. It ends with Close or garbage collection.
type Reservation struct {
	socket  *os.File
	address netip.AddrPort
}

// Reserve reserves a free port of 127.0.0.1.
func Reserve() (*Reservation, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve port: %w", os.NewSyscallError("socket", err))
	}
	r := &Reservation{socket: os.NewFile(uintptr(fd), "reserved port")}
	if err := r.bind(fd); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("reserve port: %w", err)
	}
	return r, nil
}

func (r *Reservation) bind(fd int) error {
	// Go's listeners also set this option, which lets them share the port with a socket that does not listen.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	r.address = netip.AddrPortFrom(loopback, uint16(bound.(*unix.SockaddrInet4).Port)) // #nosec G115 -- a port has 16 bits.
	return nil
}

// Address returns the host and port to listen on.
func (r *Reservation) Address() string { return r.address.String() }

// Port returns the port to listen on.
func (r *Reservation) Port() int { return int(r.address.Port()) }

// Listen listens on the port. Another listener can follow after it is closed.
func (r *Reservation) Listen() (net.Listener, error) { return net.Listen("tcp", r.Address()) }

// Close releases the port.
func (r *Reservation) Close() error { return r.socket.Close() }
