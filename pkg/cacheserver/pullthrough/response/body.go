// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"sync"
	"time"
)

var copyBuffers = sync.Pool{New: func() any {
	buffer := make([]byte, 32<<10)
	return &buffer
}}

// zeros stands in for body bytes when Finish reports them to the wrappers.
var zeros [1 << 20]byte

// Stream is content that is still arriving.
type Stream interface {
	io.Reader
	// CopyTo copies n bytes from the current position, each part as it arrives.
	CopyTo(ctx context.Context, w io.Writer, n int64) (int64, error)
}

// Body is a ResponseWriter that sends the header through all wrappers but writes the body directly to the connection.
type Body struct {
	http.ResponseWriter
	ctx        context.Context
	state      *Writer
	connection io.Writer
	written    int64
	// uncounted is the number of written bytes that bypassed the wrappers.
	uncounted int64
	err       error
}

// NewBody returns the body of the response to w, which wraps the request's Writer.
func NewBody(ctx context.Context, w http.ResponseWriter) *Body {
	b := &Body{ResponseWriter: w, ctx: ctx, state: From(ctx), connection: w}
	if b.state != nil {
		b.connection = b.state.ResponseWriter
	}
	return b
}

// Write implements io.Writer.
func (b *Body) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p)
	b.note(int64(n), err)
	return n, err
}

// ReadFrom implements io.ReaderFrom, by which http.ServeContent hands over a file or a Stream.
func (b *Body) ReadFrom(source io.Reader) (int64, error) {
	limited, ok := source.(*io.LimitedReader)
	if !ok {
		return b.copy(source)
	}
	if stream, ok := limited.R.(Stream); ok {
		n, err := stream.CopyTo(b.ctx, b.Parts(), limited.N)
		b.note(0, err)
		limited.N -= n
		return n, err
	}
	return b.copy(source)
}

// Parts returns a writer for content that arrives in parts. The next part may take a while, so each is sent at once, and
// the client's time does not run in between.
func (b *Body) Parts() io.Writer { return parts{b} }

type parts struct{ body *Body }

// Write implements io.Writer.
func (p parts) Write(part []byte) (int, error) {
	n, err := p.ReadFrom(bytes.NewReader(part))
	return int(n), err
}

// ReadFrom implements io.ReaderFrom.
func (p parts) ReadFrom(part io.Reader) (int64, error) {
	n, err := p.body.copy(part)
	if flusher, ok := p.body.connection.(http.Flusher); ok && err == nil {
		flusher.Flush()
	}
	p.body.state.relax()
	return n, err
}

// copy sends piece by piece, so that a client that stops reading does not hold anything up for ever.
func (b *Body) copy(source io.Reader) (n int64, err error) {
	limited, ok := source.(*io.LimitedReader)
	if !ok {
		return b.copyPiece(source)
	}
	for err == nil && limited.N > 0 {
		piece := &io.LimitedReader{R: limited.R, N: min(limited.N, pieceBytes)}
		var copied int64
		copied, err = b.copyPiece(piece)
		n += copied
		limited.N -= copied
		if err == nil && piece.N > 0 {
			break // The source has ended.
		}
	}
	return n, err
}

func (b *Body) copyPiece(source io.Reader) (n int64, err error) {
	b.state.Extend()
	if _, inMemory := source.(*bytes.Reader); !inMemory {
		defer b.state.send()()
	}
	begun := time.Now()
	if direct, ok := b.connection.(io.ReaderFrom); ok {
		n, err = direct.ReadFrom(source)
	} else {
		buffer := copyBuffers.Get().(*[]byte)
		n, err = io.CopyBuffer(struct{ io.Writer }{b.connection}, source, *buffer)
		copyBuffers.Put(buffer)
	}
	b.state.took(n, time.Since(begun))
	b.state.sent(n, ofConnection(err))
	b.uncounted += n
	b.note(n, err)
	return n, err
}

// ofConnection returns the error of a copy, unless it is that of the file that was copied.
func ofConnection(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil
	}
	return err
}

func (b *Body) note(n int64, err error) {
	b.written += n
	if err != nil && b.err == nil {
		b.err = err
	}
}

// Fail notes an error of the content.
func (b *Body) Fail(err error) { b.note(0, err) }

// Finish reports the bytes that bypassed the wrappers to them, and returns the number of bytes written. If the body is
// incomplete, the caller has to abort the response with the panic http.ErrAbortHandler: the header has been sent, so
// only a broken connection can tell the client.
func (b *Body) Finish() (written int64, err error) {
	if b.state != nil {
		b.state.counting = true
		for b.uncounted > 0 {
			n, err := b.ResponseWriter.Write(zeros[:min(b.uncounted, int64(len(zeros)))])
			b.uncounted -= int64(n)
			if err != nil || n == 0 {
				break
			}
		}
		b.state.counting = false
	}
	if b.err != nil {
		b.state.incomplete(b.ctx, b.err)
	}
	return b.written, b.err
}
