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
	// windowBytes is what a transfer without a disk keeps in memory.
	windowBytes = 512 << 10
	copyBytes   = 32 << 10
)

const (
	// defaultStall is how long one reader may hold up the others of a transfer without a disk.
	defaultStall = 10 * time.Second
	// sharedRate is how many bytes a second a reader has to take while others wait for it.
	sharedRate = 1 << 20
)

var buffers = sync.Pool{New: func() any {
	buffer := make([]byte, copyBytes)
	return &buffer
}}

// window is the memory of a transfer whose bytes the disk does not take: a ring that holds [start, end) of the object.
// The producer waits until every reader has taken what it overwrites.
type window struct {
	ring  []byte
	start int64
	end   int64
	// freed is signalled when a reader moved on.
	freed chan struct{}
	// held is for how long readers have held up others since they were marked. The producer alone uses both.
	held   time.Duration
	marked time.Time
}

// Pass hands bytes to the readers without storing them. It waits until the window has room, which depends on the
// slowest reader. A reader that takes less than sharedRate while others wait for it is dropped. A reader without others may
// be slow: limiting the time of clients is up to their server.
func (f *Transfer) Pass(ctx context.Context, p []byte) error {
	f.mu.Lock()
	if f.window == nil {
		f.window = &window{ring: make([]byte, windowBytes), start: f.inFile, end: f.inFile, freed: make(chan struct{}, 1)}
		f.mark()
	}
	w := f.window
	f.mu.Unlock()
	for len(p) > 0 {
		n, err := f.room(ctx, w)
		if err != nil {
			return err
		}
		n = min(n, len(p))
		f.mu.Lock()
		w.put(p[:n])
		f.wake()
		f.mu.Unlock()
		p = p[n:]
	}
	return nil
}

// room waits until the window takes at least one byte and returns how many it takes.
func (f *Transfer) room(ctx context.Context, w *window) (int, error) {
	for {
		f.mu.Lock()
		slowest, fastest := w.end, int64(0)
		for r := range f.readers {
			if !r.dropped {
				slowest, fastest = min(slowest, r.position), max(fastest, r.position)
			}
		}
		// What nobody has asked for yet is kept for those who may still come.
		if len(f.readers) > 0 {
			w.start = max(w.start, min(slowest, w.end))
		}
		room, held := int(int64(len(w.ring))-(w.end-w.start)), fastest >= w.end
		f.mu.Unlock()
		if room > 0 {
			return room, nil
		}
		if err := f.awaitRoom(ctx, w, held); err != nil {
			return 0, err
		}
	}
}

// awaitRoom waits until a reader has moved on. Held says that others wait for that reader, which uses up its patience.
func (f *Transfer) awaitRoom(ctx context.Context, w *window, held bool) error {
	var patience <-chan time.Time
	begun := time.Now()
	if held {
		timer := time.NewTimer(f.stall - w.held)
		defer timer.Stop()
		patience = timer.C
	}
	select {
	case <-w.freed:
		if held {
			w.held += time.Since(begun)
		}
	case <-patience:
		f.dropSlow(w)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// mark notes where the readers are, for dropSlow. The caller holds mu.
func (f *Transfer) mark() {
	for r := range f.readers {
		r.marked = r.position
	}
	f.window.held, f.window.marked = 0, time.Now()
}

// dropSlow cuts off the readers that have taken too little since they were marked and are not where the others wait.
func (f *Transfer) dropSlow(w *window) {
	f.mu.Lock()
	defer f.mu.Unlock()
	enough := int64(time.Since(w.marked).Seconds() * sharedRate)
	for r := range f.readers {
		if r.marked != unmarked && r.position < w.end && r.position-r.marked < enough {
			r.dropped = true
		}
	}
	f.mark()
	f.wake()
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

// wakeProducer tells the producer that a reader may have moved on. The caller holds mu.
func (f *Transfer) wakeProducer() {
	select {
	case f.window.freed <- struct{}{}:
	default:
	}
}

func (r *Reader) copyWindow(w io.Writer, offset, n int64) (int64, error) {
	if r.buffer == nil {
		r.buffer = buffers.Get().(*[]byte)
	}
	f := r.transfer
	f.mu.Lock()
	if r.dropped || f.window == nil || offset < f.window.start {
		f.mu.Unlock()
		return 0, ErrTooSlow
	}
	buffer := (*r.buffer)[:min(n, copyBytes)]
	part := f.window.get(buffer, offset)
	r.position = offset + int64(part)
	f.wakeProducer()
	f.mu.Unlock()
	written, err := w.Write(buffer[:part])
	return int64(written), err
}
