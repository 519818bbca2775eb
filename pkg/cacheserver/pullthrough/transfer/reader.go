// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"io"
	"os"
)

// pieceBytes limits the bytes of a file that a reader copies before it updates its position.
const pieceBytes = 1 << 20

// unmarked is the mark of a reader that has joined after the last call of mark.
const unmarked int64 = -1

// Reader follows a transfer. It must not be used concurrently.
type Reader struct {
	transfer *Transfer
	file     *os.File
	// position is the next byte that this reader wants, marked its position at the last call of mark, dropped means
	// that it must not continue, delivered that it got what it wanted; guarded by the transfer's mu.
	position, marked   int64
	dropped, delivered bool
	buffer             *[]byte
}

// Unstored returns why the object is not stored, nil as far as is known yet.
func (r *Reader) Unstored() error {
	r.transfer.mu.Lock()
	defer r.transfer.mu.Unlock()
	return r.transfer.unstored
}

// Owner returns the owner that the transfer was started with.
func (r *Reader) Owner() string { return r.transfer.owner }

// WaitSize waits for Begin and returns the object's size, which may be Unknown, or the error of the transfer.
func (r *Reader) WaitSize(ctx context.Context) (int64, error) {
	var size int64
	err := r.wait(ctx, func(t *Transfer) bool {
		size = t.size
		return t.begun
	})
	return size, err
}

// WaitVerified waits until the object is verified and returns its size.
func (r *Reader) WaitVerified(ctx context.Context) (int64, error) {
	var size int64
	err := r.wait(ctx, func(t *Transfer) bool {
		size = t.size
		return t.verified
	})
	return size, err
}

// Copy writes n bytes from offset to w, as they arrive; with n Unknown, all bytes to the end. It returns an error if
// not all of them arrive, or if the object turns out to be corrupt before they have. It writes the last byte of the
// object only after the object is verified. The bytes before that are not verified when they are written.
//
// It passes an *os.File in an io.LimitedReader to w's ReadFrom, which net/http needs for sendfile.
func (r *Reader) Copy(ctx context.Context, w io.Writer, offset, n int64) (written int64, err error) {
	defer func() {
		if err == nil {
			r.deliver()
		}
	}()
	for n == Unknown || written < n {
		part, err := r.available(ctx, offset+written, remaining(n, written))
		if err != nil {
			return written, err
		}
		if part == 0 {
			return written, nil
		}
		copied, err := r.copyPart(w, offset+written, part)
		written += copied
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (r *Reader) deliver() {
	r.transfer.mu.Lock()
	defer r.transfer.mu.Unlock()
	r.delivered = true
}

func remaining(n, written int64) int64 {
	if n == Unknown {
		return Unknown
	}
	return n - written
}

// available waits until at least one byte at offset can be read, and returns how many, at most n. Zero means the end.
func (r *Reader) available(ctx context.Context, offset, n int64) (int64, error) {
	var part int64
	err := r.wait(ctx, func(t *Transfer) bool {
		if r.dropped {
			return true
		}
		r.position = offset
		end := t.arrived()
		if n != Unknown && end > offset+n {
			end = offset + n
		}
		if !t.verified && end == t.size {
			end-- // The last byte is held back until the object is verified.
		}
		part = end - offset
		return part > 0 || t.verified
	})
	if err == nil && r.dropped {
		err = ErrTooSlow
	}
	if err == nil && part <= 0 && n != Unknown {
		err = io.ErrUnexpectedEOF
	}
	return part, err
}

// copyPart copies bytes that have arrived, from the file or the window.
func (r *Reader) copyPart(w io.Writer, offset, n int64) (int64, error) {
	r.transfer.mu.Lock()
	inFile, open, kept := r.transfer.inFile, r.transfer.open, r.transfer.kept
	r.transfer.mu.Unlock()
	if offset >= inFile {
		return r.copyWindow(w, offset, n)
	}
	n = min(n, inFile-offset, pieceBytes)
	if r.file == nil {
		file, err := open()
		if err != nil && kept != nil {
			// All readers share its offset, so the kernel cannot send from it.
			return io.Copy(w, io.NewSectionReader(kept, offset, n))
		}
		if err != nil {
			return 0, err
		}
		r.file = file
	}
	if _, err := r.file.Seek(offset, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(w, &io.LimitedReader{R: r.file, N: n})
}

// wait waits until ready returns true, or returns the error of ctx or the transfer. Ready is called with the transfer
// locked.
func (r *Reader) wait(ctx context.Context, ready func(*Transfer) bool) error {
	t := r.transfer
	for {
		t.mu.Lock()
		ok, done, err, changed, hangs := ready(t), t.done, t.err, t.changed, t.volumeHangs()
		if t.window != nil {
			t.wakeProducer()
		}
		t.mu.Unlock()
		switch {
		case ok:
			return nil
		case done && err == nil:
			return io.ErrUnexpectedEOF
		case done:
			return err
		}
		select {
		case <-changed:
		case <-hangs:
			return ErrStuck
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close leaves the transfer. The reader must not be used afterwards.
func (r *Reader) Close() error {
	r.transfer.leave(r)
	if r.buffer != nil {
		buffers.Put(r.buffer)
		r.buffer = nil
	}
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
