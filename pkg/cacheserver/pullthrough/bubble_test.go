// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/test/enginefixture"
)

// bubble is an engine in a bubble of package synctest, whose clock advances only when nothing else is left to do, so that
// its tests do not depend on the speed of the machine.
type bubble struct {
	Gomega
	t        *testing.T
	engine   *Engine
	upstream *enginefixture.Registry
}

func inBubble(t *testing.T, change func(*Options), test func(b bubble)) {
	synctest.Test(t, func(t *testing.T) {
		b := bubble{Gomega: NewWithT(t), t: t, upstream: &enginefixture.Registry{}}
		log := logrus.New()
		log.SetOutput(io.Discard)
		o := Defaults()
		o.RemoteURL, o.RootDirectory, o.Upstream = "https://registry.example.com", t.TempDir(), b.upstream
		o.Metrics, o.Log = metrics.New(prometheus.NewRegistry()), log
		change(&o)
		var err error
		b.engine, err = New(o)
		b.Expect(err).NotTo(HaveOccurred())
		defer func() { b.Expect(b.engine.Close()).To(Succeed()) }()
		test(b)
	})
}

// pipes is a network that a bubble sees: a listener whose connections are pipes.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	closing     sync.Once
}

func newPipes() *pipes { return &pipes{connections: make(chan net.Conn), closed: make(chan struct{})} }

// dial returns the client's end of a connection that has no buffers: what is written has to be read.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.connections <- server
	return client
}

// dialBuffered returns the client's end of a connection that takes what the server writes at once, as sockets do.
func (p *pipes) dialBuffered() net.Conn {
	client, server := net.Pipe()
	b := &buffered{Conn: server, queue: make(chan []byte, 1000), closed: make(chan struct{})}
	go b.send()
	p.connections <- b
	return client
}

type buffered struct {
	net.Conn
	queue   chan []byte
	closed  chan struct{}
	closing sync.Once
}

func (b *buffered) send() {
	for {
		select {
		case p := <-b.queue:
			if _, err := b.Conn.Write(p); err != nil {
				return
			}
		case <-b.closed:
			return
		}
	}
}

// Write implements net.Conn.
func (b *buffered) Write(p []byte) (int, error) {
	select {
	case b.queue <- bytes.Clone(p):
		return len(p), nil
	case <-b.closed:
		return 0, net.ErrClosed
	}
}

// Close implements net.Conn.
func (b *buffered) Close() error {
	b.closing.Do(func() { close(b.closed) })
	return b.Conn.Close()
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case connection := <-p.connections:
		return connection, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	err := errors.New("closed twice")
	p.closing.Do(func() {
		close(p.closed)
		err = nil
	})
	return err
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
