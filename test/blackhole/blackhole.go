// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package blackhole provides listeners that stop responding, as a server whose process or network hangs.
package blackhole

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// smallBacklog is the backlog of a listener that drops connections. Linux accepts one connection more, and Accept may
	// take another one: so many fill it.
	smallBacklog = 8
	minHeld      = smallBacklog + 2
	// maxHeld bounds the connections that fill the backlog.
	maxHeld = 100
	// dropTimeout is the time after which a connection counts as dropped. The kernel accepts one on the loopback interface
	// in less than a millisecond.
	dropTimeout = 100 * time.Millisecond
)

// Listener is a listener that accepts connections until [Listener.Hang] or [Listener.Drop], and again after
// [Listener.Resume].
type Listener struct {
	*net.TCPListener
	closed chan struct{}
	close  func() error

	mutex   sync.Mutex
	resumed chan struct{} // closed unless the listener hangs
	held    []net.Conn
}

// Listen returns a listener of a TCP address.
func Listen(network, address string) (*Listener, error) {
	listener, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		_ = listener.Close()
		return nil, fmt.Errorf("%s is not a TCP network", network)
	}
	l := &Listener{TCPListener: tcp, closed: make(chan struct{}), resumed: make(chan struct{})}
	close(l.resumed)
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		l.release()
		return tcp.Close()
	})
	return l, nil
}

// Accept implements net.Listener. It does not return a connection while the listener hangs.
func (l *Listener) Accept() (net.Conn, error) {
	connection, err := l.TCPListener.Accept()
	if err != nil {
		return nil, err
	}
	l.mutex.Lock()
	resumed := l.resumed
	l.mutex.Unlock()
	select {
	case <-resumed:
		return connection, nil
	case <-l.closed:
		_ = connection.Close()
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error { return l.close() }

// Hang lets the kernel accept connections to which nothing responds.
func (l *Listener) Hang() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	select {
	case <-l.resumed:
		l.resumed = make(chan struct{})
	default:
	}
}

// Drop makes the kernel drop connections without a response: it does so while the backlog is full.
func (l *Listener) Drop() error {
	l.Hang()
	if err := l.setBacklog(smallBacklog); err != nil {
		return err
	}
	for i := range maxHeld {
		connection, err := net.DialTimeout("tcp", l.Addr().String(), dropTimeout)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			// On a busy machine, the kernel may have accepted the connection.
			if i < minHeld {
				continue
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("fill backlog: %w", err)
		}
		l.mutex.Lock()
		l.held = append(l.held, connection)
		l.mutex.Unlock()
	}
	return fmt.Errorf("the backlog takes more than %d connections", maxHeld)
}

// Resume makes the listener respond again, also to connections that the kernel has accepted meanwhile.
func (l *Listener) Resume() error {
	l.release()
	l.mutex.Lock()
	select {
	case <-l.resumed:
	default:
		close(l.resumed)
	}
	l.mutex.Unlock()
	return l.setBacklog(unix.SOMAXCONN)
}

func (l *Listener) release() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, connection := range l.held {
		_ = connection.Close()
	}
	l.held = nil
}

func (l *Listener) setBacklog(size int) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var listenErr error
	// Listening again changes only the backlog.
	if err := raw.Control(func(fd uintptr) { listenErr = unix.Listen(int(fd), size) }); err != nil {
		return err
	}
	if listenErr != nil {
		return fmt.Errorf("set backlog: %w", listenErr)
	}
	return nil
}
