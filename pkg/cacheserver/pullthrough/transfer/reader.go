// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"io"
	"os"
)

// pieceBytes is after how many bytes of a file the position of a reader is known again.
const pieceBytes = 1 << 20

// unmarked is where a reader is marked that has joined after the others were.
const unmarked int64 = -1

// Reader follows one transfer. It is used by one goroutine.
type Reader struct {
	transfer *Transfer
	file     *os.File
	// position is the next byte that this reader wants, marked where it was some time ago, dropped that it may not go on,
	// delivered that it got what it asked for; guarded by the transfer's mu.
	position, marked   int64
	dropped, delivered bool
	buffer             *[]byte
}

// Owner is on whose behalf the transfer was started.
func (r *Reader) Owner() string { return r.transfer.owner }

// Size waits until the object's size is told, which may be Unknown, or until the transfer has failed.
func (r *Reader) Size(ctx context.Context) (int64, error) {
	var size int64
	err := r.wait(ctx, func(f *Transfer) bool {
		size = f.size
		return f.begun
	})
	return size, err
}

// Settled waits until the object is verified and returns its size.
func (r *Reader) Settled(ctx context.Context) (int64, error) {
	var size int64
	err := r.wait(ctx, func(f *Transfer) bool {
		size = f.size
		return f.verified
	})
	return size, err
}

// Copy writes the n bytes from offset to w, as they arrive; with n Unknown all to the end. It returns an error if
// they do not all arrive, or if the object turns out to be wrong before they have; the object's last byte is written only
// if the object is right. Bytes before that one have not been verified when they are written.
//
// It hands w's ReadFrom an *os.File in an io.LimitedReader, which is what net/http needs for sendfile.
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

// available waits until at least one byte at offset may be read and returns how many, at most n. Zero means the end.
func (r *Reader) available(ctx context.Context, offset, n int64) (int64, error) {
	var part int64
	err := r.wait(ctx, func(f *Transfer) bool {
		if r.dropped {
			return true
		}
		r.position = offset
		end := f.arrived()
		if n != Unknown && end > offset+n {
			end = offset + n
		}
		if !f.verified && end == f.size {
			end-- // The last byte is the reader's proof, so it waits for ours.
		}
		part = end - offset
		return part > 0 || f.verified
	})
	if err == nil && r.dropped {
		err = ErrTooSlow
	}
	if err == nil && part <= 0 && n != Unknown {
		err = io.ErrUnexpectedEOF
	}
	return part, err
}

// copyPart copies bytes that have arrived, from the file as far as that goes, else from the window.
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
			// All readers share its position, so the kernel cannot send from it.
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

// wait returns when ready says so, or when that can no longer be. Ready is called with the transfer locked.
func (r *Reader) wait(ctx context.Context, ready func(*Transfer) bool) error {
	f := r.transfer
	for {
		f.mu.Lock()
		ok, done, err, changed := ready(f), f.done, f.err, f.changed
		if f.window != nil {
			f.wakeProducer()
		}
		f.mu.Unlock()
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
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close lets go of the transfer. The reader must not be used any more.
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
