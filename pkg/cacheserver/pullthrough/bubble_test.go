// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// bubble is an engine in a bubble of package synctest, whose clock advances only when nothing else is left to do. So what
// happens in it does not depend on the machine. A bubble does not see what the network does, so there is none.
type bubble struct {
	Gomega
	t        *testing.T
	engine   *Engine
	upstream *slowRegistry
}

func inBubble(t *testing.T, change func(*Options), test func(b bubble)) {
	synctest.Test(t, func(t *testing.T) {
		b := bubble{Gomega: NewWithT(t), t: t, upstream: &slowRegistry{}}
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

// slowRegistry has one tag, and takes its time.
type slowRegistry struct {
	remote.Registry
	mu                 sync.Mutex
	manifest           []byte
	resolving, sending time.Duration
	fetches            atomic.Int32 // of blobs
}

// push moves the tag to a manifest that has the given text somewhere, and returns its digest.
func (r *slowRegistry) push(text string) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifest = []byte(`{"mediaType":"` + imagev1.MediaTypeImageManifest + `","annotations":{"a":"` + text + `"}}`)
	return digest.FromBytes(r.manifest)
}

// take sets how long answers take.
func (r *slowRegistry) take(resolving, sending time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resolving, r.sending = resolving, sending
}

func (r *slowRegistry) answer(ctx context.Context, takes *time.Duration) (remote.Manifest, error) {
	r.mu.Lock()
	d, content := *takes, r.manifest
	r.mu.Unlock()
	if !sleep(ctx, d) {
		return remote.Manifest{}, context.Cause(ctx)
	}
	return remote.Manifest{Digest: digest.FromBytes(content), MediaType: imagev1.MediaTypeImageManifest, Content: content}, nil
}

// Resolve implements remote.Registry.
func (r *slowRegistry) Resolve(ctx context.Context, _, _ string) (digest.Digest, error) {
	m, err := r.answer(ctx, &r.resolving)
	return m.Digest, err
}

// FetchManifest implements remote.Registry.
func (r *slowRegistry) FetchManifest(ctx context.Context, _, _ string) (remote.Manifest, error) {
	return r.answer(ctx, &r.sending)
}

// FetchBlob implements remote.Registry. Each blob is the manifest.
func (r *slowRegistry) FetchBlob(ctx context.Context, _ string, _ digest.Digest, from remote.Position) (*remote.Blob, error) {
	m, err := r.answer(ctx, &r.sending)
	if err != nil {
		return nil, err
	}
	r.fetches.Add(1)
	body := io.NopCloser(bytes.NewReader(m.Content[from.Offset:]))
	return &remote.Blob{Body: body, Offset: from.Offset, Size: int64(len(m.Content))}, nil
}

// Healthy implements remote.Registry.
func (r *slowRegistry) Healthy() bool { return true }

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
