// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"io"
	"sync"
	"time"
)

const (
	// windowBytes is the size of the window of a transfer without a disk.
	windowBytes = 512 << 10
	copyBytes   = 32 << 10
)

const (
	// defaultStall is how long a reader may block the others of a transfer without a disk.
	defaultStall = 10 * time.Second
	// sharedRate is the minimum rate, in bytes per second, of a reader that others wait for.
	sharedRate = 1 << 20
)

var buffers = sync.Pool{New: func() any {
	buffer := make([]byte, copyBytes)
	return &buffer
}}

// window is the memory of a transfer that does not fit on the disk: a ring buffer with [start, end) of the object. The
// producer waits until every reader has read the bytes that it overwrites.
type window struct {
	ring  []byte
	start int64
	end   int64
	// freed is signaled when a reader has moved on.
	freed chan struct{}
	// held is how long readers have blocked others since they were marked. Only the producer uses held and marked.
	held   time.Duration
	marked time.Time
}

// Pass passes bytes to the readers without storing them. It waits until the window has room, which depends on the
// slowest reader. A reader that is slower than sharedRate while others wait for it is dropped. A reader that blocks no
// others may be slow: timeouts for clients are up to the server.
func (t *Transfer) Pass(ctx context.Context, p []byte) error {
	t.mu.Lock()
	if t.window == nil {
		t.window = &window{ring: make([]byte, windowBytes), start: t.inFile, end: t.inFile, freed: make(chan struct{}, 1)}
		t.mark()
	}
	w := t.window
	t.mu.Unlock()
	for len(p) > 0 {
		n, err := t.room(ctx, w)
		if err != nil {
			return err
		}
		n = min(n, len(p))
		t.mu.Lock()
		w.put(p[:n])
		t.wake()
		t.mu.Unlock()
		p = p[n:]
	}
	return nil
}

// room waits until the window has room for at least one byte, and returns how many fit.
func (t *Transfer) room(ctx context.Context, w *window) (int, error) {
	for {
		t.mu.Lock()
		slowest, fastest := w.end, int64(0)
		for r := range t.readers {
			if !r.dropped {
				slowest, fastest = min(slowest, r.position), max(fastest, r.position)
			}
		}
		// Without readers, the window keeps its bytes for those that may still join.
		if len(t.readers) > 0 {
			w.start = max(w.start, min(slowest, w.end))
		}
		room, held := int(int64(len(w.ring))-(w.end-w.start)), fastest >= w.end
		t.mu.Unlock()
		if room > 0 {
			return room, nil
		}
		if err := t.awaitRoom(ctx, w, held); err != nil {
			return 0, err
		}
	}
}

// awaitRoom waits until a reader has moved on. Held means that others wait for the slowest reader, whose time is
// limited.
func (t *Transfer) awaitRoom(ctx context.Context, w *window, held bool) error {
	var stalled <-chan time.Time
	begun := time.Now()
	if held {
		timer := time.NewTimer(t.stall - w.held)
		defer timer.Stop()
		stalled = timer.C
	}
	select {
	case <-w.freed:
		if held {
			w.held += time.Since(begun)
		}
	case <-stalled:
		t.dropSlow(w)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// mark records the positions of the readers for dropSlow. The caller holds mu.
func (t *Transfer) mark() {
	for r := range t.readers {
		r.marked = r.position
	}
	t.window.held, t.window.marked = 0, time.Now()
}

// dropSlow drops the readers that have read too little since they were marked and do not wait for new bytes.
func (t *Transfer) dropSlow(w *window) {
	t.mu.Lock()
	defer t.mu.Unlock()
	enough := int64(time.Since(w.marked).Seconds() * sharedRate)
	for r := range t.readers {
		if r.marked != unmarked && r.position < w.end && r.position-r.marked < enough {
			r.dropped = true
		}
	}
	t.mark()
	t.wake()
}

func (w *window) put(p []byte) {
	for len(p) > 0 {
		n := copy(w.ring[w.end%int64(len(w.ring)):], p)
		w.end += int64(n)
		p = p[n:]
	}
}

func (w *window) get(p []byte, offset int64) int {
	n := 0
	for n < len(p) && offset < w.end {
		from := w.ring[offset%int64(len(w.ring)):]
		from = from[:min(int64(len(from)), w.end-offset)]
		copied := copy(p[n:], from)
		n += copied
		offset += int64(copied)
	}
	return n
}

// wakeProducer signals that a reader may have moved on. The caller holds mu.
func (t *Transfer) wakeProducer() {
	select {
	case t.window.freed <- struct{}{}:
	default:
	}
}

func (r *Reader) copyWindow(w io.Writer, offset, n int64) (int64, error) {
	if r.buffer == nil {
		r.buffer = buffers.Get().(*[]byte)
	}
	t := r.transfer
	t.mu.Lock()
	if r.dropped || t.window == nil || offset < t.window.start {
		t.mu.Unlock()
		return 0, ErrTooSlow
	}
	buffer := (*r.buffer)[:min(n, copyBytes)]
	part := t.window.get(buffer, offset)
	r.position = offset + int64(part)
	t.wakeProducer()
	t.mu.Unlock()
	written, err := w.Write(buffer[:part])
	return int64(written), err
}
