// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package response

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

// lookInterval is how often the connection of a request is looked at.
const lookInterval = 100 * time.Millisecond

type connectionKey struct{}

// withConnection lets handlers look at the connections of a server.
func withConnection(ctx context.Context, connection net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, connection)
}

// connectionOf returns the connection of a request, nil if it cannot be looked at. That of HTTP/2 is shared by
// requests, each of which may wait for its client.
func connectionOf(r *http.Request) *net.TCPConn {
	if r.ProtoMajor != 1 {
		return nil
	}
	connection := r.Context().Value(connectionKey{})
	if encrypted, ok := connection.(interface{ NetConn() net.Conn }); ok {
		connection = encrypted.NetConn()
	}
	tcp, _ := connection.(*net.TCPConn)
	return tcp
}

// watch ends the response to a request that waits while the volume hangs. A call to the volume cannot be canceled, and
// the client would wait until it gives up the pull. It ends the connection, but does not reset it, so that containerd
// continues with the next host.
//
// It also counts the calls in which the kernel sends a file: from the outside, they may as well wait for the client. If
// the client has everything that was sent and nothing more comes, they wait for the volume.
type watch struct {
	writer *Writer
	timer  *time.Timer

	mu sync.Mutex
	// sending means that a file is being sent. Reading is the call that is counted while that waits for the volume.
	sending bool
	reading *volume.Call
	// written is the number of bytes on the connection at the last look.
	written uint64
	// hanging is closed if the volume has hung since the request began to wait, even if it does not hang any more: a call
	// may be stuck all the same.
	hanging      <-chan struct{}
	isCut, ended bool
}

// Watch ends the response to a request that waits while the volume hangs, until the returned function is called.
func (w *Writer) Watch() (end func()) {
	if w == nil || w.watch != nil {
		return func() {}
	}
	p := &watch{writer: w, hanging: w.volume.Hanging()}
	if w.connection != nil {
		p.written, _ = look(w.connection)
	}
	w.watch = p
	p.mu.Lock()
	p.timer = time.AfterFunc(lookInterval, p.look)
	p.mu.Unlock()
	return p.end
}

func (p *watch) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	waits := true // Nothing is known about a request of HTTP/2.
	if p.writer.connection != nil {
		written, isIdle := look(p.writer.connection)
		waits = isIdle && written == p.written
		if p.sending {
			p.count(waits, written != p.written)
		}
		p.written = written
	}
	if !waits {
		p.hanging = p.writer.volume.Hanging()
	}
	select {
	case <-p.hanging:
	default:
		p.timer.Reset(lookInterval)
		return
	}
	p.isCut = true
	p.writer.log.Warn("Ended a response that waits for the volume")
	if p.writer.connection != nil {
		_ = p.writer.connection.CloseWrite() // If the client has left, there is nothing to end.
	} else {
		p.writer.setDeadline(-time.Second)
	}
}

// count counts a call to the volume while waits is set, and one that has returned if it delivers. The caller holds mu.
func (p *watch) count(waits, delivers bool) {
	switch {
	case p.reading == nil && waits:
		p.reading = new(p.writer.volume.Read())
	case p.reading != nil && !waits:
		p.reading.Returned()
		p.reading = nil
	case delivers:
		p.writer.volume.Read().Returned()
	}
}

// send notes that a file is being sent, until the returned function is called.
func (w *Writer) send() (end func()) {
	if w == nil || w.watch == nil {
		return func() {}
	}
	p := w.watch
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sending = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sending = false
		p.count(false, true)
	}
}

func (p *watch) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.timer.Stop()
}

// isCut reports whether the response was ended because the volume hangs.
func (w *Writer) isCut() bool {
	if w.watch == nil {
		return false
	}
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	return w.watch.isCut
}

// look returns how many bytes were written to a connection, as far as the kernel says, and whether its client has
// acknowledged all of them.
func look(connection *net.TCPConn) (written uint64, isIdle bool) {
	raw, err := connection.SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			written = info.Bytes_sent - info.Bytes_retrans + uint64(info.Notsent_bytes)
			isIdle = info.Unacked == 0 && info.Notsent_bytes == 0
		}
	})
	return written, isIdle
}
