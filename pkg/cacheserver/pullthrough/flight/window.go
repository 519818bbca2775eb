// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package flight

import (
	"context"
	"io"
	"sync"
	"time"
)

const (
	// windowBytes is what a flight without a disk keeps in memory.
	windowBytes = 512 << 10
	copyBytes   = 32 << 10
)

// defaultStall is how long a reader that takes nothing may hold up a flight without a disk.
const defaultStall = 30 * time.Second

var buffers = sync.Pool{New: func() any {
	buffer := make([]byte, copyBytes)
	return &buffer
}}

// window is the memory of a flight whose bytes the disk does not take: a ring that holds [start, end) of the object.
// The producer waits until every reader has taken what it overwrites.
type window struct {
	ring  []byte
	start int64
	end   int64
	// freed is signalled when a reader moved on.
	freed chan struct{}
}

// Pass hands bytes to the readers without storing them. It waits until the window has room, which depends on the
// slowest reader; a reader that takes nothing for too long is dropped.
func (f *Flight) Pass(ctx context.Context, p []byte) error {
	f.mu.Lock()
	if f.window == nil {
		f.window = &window{ring: make([]byte, windowBytes), start: f.inFile, end: f.inFile, freed: make(chan struct{}, 1)}
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
func (f *Flight) room(ctx context.Context, w *window) (int, error) {
	patience := time.NewTimer(f.stall)
	defer patience.Stop()
	f.mark()
	for {
		f.mu.Lock()
		slowest := w.end
		for r := range f.readers {
			if !r.dropped {
				slowest = min(slowest, r.position)
			}
		}
		// What nobody has asked for yet is kept for those who may still come.
		if len(f.readers) > 0 {
			w.start = max(w.start, min(slowest, w.end))
		}
		room := int(int64(len(w.ring)) - (w.end - w.start))
		f.mu.Unlock()
		if room > 0 {
			return room, nil
		}
		select {
		case <-w.freed:
		case <-patience.C:
			f.dropStalled(w)
			patience.Reset(f.stall)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// mark notes where the readers are, for dropStalled.
func (f *Flight) mark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.marked = r.position
	}
}

// dropStalled cuts off the readers that stand at the beginning of a full window, or before it in the file, since they
// were marked.
func (f *Flight) dropStalled(w *window) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		if r.position <= w.start && r.position == r.marked {
			r.dropped = true
		}
		r.marked = r.position
	}
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
func (f *Flight) wakeProducer() {
	select {
	case f.window.freed <- struct{}{}:
	default:
	}
}

func (r *Reader) copyWindow(w io.Writer, offset, n int64) (int64, error) {
	if r.buffer == nil {
		r.buffer = buffers.Get().(*[]byte)
	}
	f := r.flight
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
