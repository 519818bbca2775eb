// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"
	"golang.org/x/sys/unix"
)

const (
	respond int32 = iota
	// refuse closes connections without a response.
	refuse
	// refuseOnce does so once, and responds afterwards.
	refuseOnce
	// hang accepts connections, and does not respond.
	hang
	// respondLate responds after a delay.
	respondLate
)

// cache is a server that counts checks. A request for /content gets some, and a request for /slow gets it slowly,
// without an end.
type cache struct {
	address string
	mode    atomic.Int32
	checks  atomic.Int64
	// delay is that of respondLate. It is set before the mode.
	delay time.Duration
}

func newCache(address string, mode int32) *cache {
	GinkgoHelper()
	listener, err := net.Listen("tcp", address)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { _ = listener.Close() })
	c := &cache{address: listener.Addr().String()}
	c.mode.Store(mode)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go c.serve(connection)
		}
	}()
	return c
}

func (c *cache) serve(connection net.Conn) {
	defer connection.Close()
	request, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return
	}
	const content = "HTTP/1.0 200 OK\r\n\r\ncontent"
	switch {
	case strings.HasPrefix(request, "GET /content "):
		_, _ = connection.Write([]byte(content))
		c.wait(connection)
	case strings.HasPrefix(request, "GET /slow "):
		for err == nil {
			_, err = connection.Write([]byte(content))
			time.Sleep(200 * time.Millisecond)
		}
	default:
		c.checks.Add(1)
		switch mode := c.mode.Load(); {
		case mode == hang:
			c.wait(connection)
		case mode == respondLate:
			time.Sleep(c.delay)
			_, _ = connection.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
		case mode == respond, mode == refuseOnce && !c.mode.CompareAndSwap(refuseOnce, respond):
			_, _ = connection.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
		}
	}
}

// wait returns when the client has closed the connection.
func (*cache) wait(connection net.Conn) {
	_, _ = connection.Read(make([]byte, 1))
}

// manyCaches returns caches that respond, and their configuration.
func manyCaches(number int) (configuration []string, caches []*cache) {
	GinkgoHelper()
	for i := range number {
		cache := newCache("127.0.0.1:0", respond)
		caches = append(caches, cache)
		configuration = append(configuration, fmt.Sprintf("registry-%d.example.com", i), cache.address)
	}
	return configuration, caches
}

// blackHole is an address that does not respond to new connections while its backlog is full.
type blackHole struct {
	fd      int
	address string
	held    []net.Conn
}

func newBlackHole() *blackHole {
	GinkgoHelper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { _ = unix.Close(fd) })
	Expect(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})).To(Succeed())
	Expect(unix.Listen(fd, 8)).To(Succeed())
	name, err := unix.Getsockname(fd)
	Expect(err).NotTo(HaveOccurred())
	return &blackHole{fd: fd, address: fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)}
}

// fill fills the backlog.
func (b *blackHole) fill() {
	GinkgoHelper()
	for range 100 {
		connection, err := net.DialTimeout("tcp", b.address, 300*time.Millisecond)
		if err != nil {
			return
		}
		b.held = append(b.held, connection)
	}
	Fail("the backlog does not fill up")
}

// serve responds to all connections from now on.
func (b *blackHole) serve() {
	GinkgoHelper()
	for _, connection := range b.held {
		_ = connection.Close()
	}
	Expect(unix.Listen(b.fd, 1024)).To(Succeed())
	stop, done := make(chan struct{}), make(chan struct{})
	DeferCleanup(func() {
		close(stop)
		<-done
	})
	go func() {
		defer close(done)
		for {
			fd, _, err := unix.Accept(b.fd)
			if err == nil {
				_, _ = unix.SendmsgN(fd, []byte("HTTP/1.0 400 Bad Request\r\n\r\n"), nil, nil, unix.MSG_NOSIGNAL)
				_ = unix.Shutdown(fd, unix.SHUT_WR)
				time.AfterFunc(time.Second, func() { _ = unix.Close(fd) })
				continue
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
}

// haveConnecting matches an address to which a connection is being made.
func haveConnecting() gomegatypes.GomegaMatcher {
	return WithTransform(func(address string) (string, error) {
		host, port, _ := net.SplitHostPort(address)
		output, err := exec.Command("ss", "-Htn", "state", "syn-sent", "dst", host, "dport", "=", ":"+port).Output()
		return string(output), err
	}, Not(BeEmpty()))
}

// requireSocketDestroy skips a test if connections of others cannot be ended.
func requireSocketDestroy() {
	GinkgoHelper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	defer listener.Close()
	connection, err := net.Dial("tcp", listener.Addr().String())
	Expect(err).NotTo(HaveOccurred())
	defer connection.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	Expect(err).NotTo(HaveOccurred())
	if output, err := exec.Command("ss", "-Kt", "dst", "127.0.0.1", "dport", "=", ":"+port).CombinedOutput(); err != nil {
		Skip(fmt.Sprintf("ss cannot end connections here: %v: %s", err, output))
	}
	Expect(connection.SetReadDeadline(time.Now().Add(time.Second))).To(Succeed())
	if _, err = connection.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNABORTED) {
		Skip("ss cannot end connections here: it needs root and a kernel with CONFIG_INET_DIAG_DESTROY")
	}
}
