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
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

// requestKey finds the request's state in its context.
type requestKey struct{}

// request is what the engine has to know of a request besides what Distribution tells it.
type request struct {
	// bare is the ResponseWriter from before Distribution wrapped it. Distribution's hides io.ReaderFrom, without which
	// each byte is copied through the process.
	bare http.ResponseWriter
	// counted is the ResponseWriter that Distribution wrapped, if it did.
	counted *countedWriter
	// timeout is how long the client may take for the next piece, of which it has taken so many bytes in such a time.
	timeout time.Duration
	taken   int64
	spent   time.Duration
	// client is its address.
	client string
	// fetched says that the upstream had to be asked for content.
	fetched bool
	log     logrus.FieldLogger
	path    string
}

// extend gives a client time to take what comes next. Small answers do without, since they are sent when the handler has
// returned, see LimitClients.
func (r *request) extend() {
	if r != nil {
		_ = http.NewResponseController(r.bare).SetWriteDeadline(time.Now().Add(r.timeout - r.spent)) // Where there are deadlines.
	}
}

// took notes how long the client took for a part of a piece, so that one that takes little at a time gets no more time for
// the piece than others.
func (r *request) took(n int64, spent time.Duration) {
	if r == nil {
		return
	}
	if r.taken += n; r.taken >= pieceBytes {
		r.taken, r.spent = 0, 0
		return
	}
	r.spent += spent
}

// relax takes back what extend said, by a deadline that is far away. Without any, HTTP/2 would let go of the stream's timer,
// and the next deadline start another one, also when the stream has ended by then, which nobody would stop.
func (r *request) relax() {
	if r != nil {
		_ = http.NewResponseController(r.bare).SetWriteDeadline(time.Now().Add(farAway))
	}
}

const farAway = 365 * 24 * time.Hour

// clientOf returns the address of who asks, empty if it is not known.
func clientOf(ctx context.Context) string {
	if r := requestOf(ctx); r != nil {
		return r.client
	}
	return ""
}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// smallAnswer is what net/http keeps with the header until the handler has returned.
const smallAnswer = 2 << 10

// pieceBytes is how much a client has to take within its timeout.
const pieceBytes = 4 << 20

// Handler wraps Distribution's application. It should be the innermost wrapper, or the others should keep the
// io.ReaderFrom of the ResponseWriter that they pass on. LimitClients belongs to the server.
func (e *Engine) Handler(app http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, _ := net.SplitHostPort(r.RemoteAddr)
		counted := &countedWriter{ResponseWriter: w}
		state := &request{bare: w, counted: counted, timeout: e.options.ClientTimeout, client: client, log: e.log, path: r.URL.Path}
		app.ServeHTTP(counted, r.WithContext(context.WithValue(r.Context(), requestKey{}, state)))
	})
}

// countedWriter is what Distribution takes for the connection. Distribution logs how many bytes it has written to that, so
// those of blobs, which go past it, are written to it once more, and end here.
type countedWriter struct {
	http.ResponseWriter
	counting bool
}

// Write implements io.Writer.
func (w *countedWriter) Write(p []byte) (int, error) {
	if w.counting {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *countedWriter) Flush() {
	if flusher, ok := w.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// nothing stands for bytes that only have to be counted.
var nothing [1 << 20]byte

// LimitClients bounds how long clients of a server may take for the end of an answer, which net/http sends when the
// handler has returned, and for a body that they announce: one that neither reads nor writes would keep its connection for
// ever. Its handler, which should be complete, gets them the time that its own work takes. No handler reads a body: a small
// one of a request to read is skipped before.
func (e *Engine) LimitClients(server *http.Server) {
	timeout, next := e.options.ClientTimeout, server.Handler
	server.WriteTimeout = timeout
	server.HTTP2 = &http.HTTP2Config{WriteByteTimeout: timeout} // A deadline of a stream says nothing of the connection.
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := &request{bare: w, timeout: timeout}
		state.relax()
		// Nothing that is served has a use for a body. HTTP/1.1 would wait for it before the answer, to go on after that.
		unread := r.ProtoMajor == 1 && r.ContentLength != 0
		if unread {
			w.Header().Set("Connection", "close")
		}
		defer func() { // Also of an answer that breaks off, by a panic.
			state.extend()
			if unread {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(min(timeout, lingering)))
			}
		}()
		if unread && onlyReads(r.Method) && !skipBody(w, r, min(timeout, lingering)) {
			http.Error(w, "the body of the request is too large or did not arrive in time: send none to read", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// maxSkipped bounds the body of a request to read.
const maxSkipped = 4 << 10

// skipBody reads a body to its end, and reports whether that came in time. Only after it does net/http notice that a client
// has left, while the answer is waited for.
func skipBody(w http.ResponseWriter, r *http.Request, timeout time.Duration) bool {
	connection := http.NewResponseController(w)
	if connection.SetReadDeadline(time.Now().Add(timeout)) != nil {
		return false
	}
	if _, err := io.CopyN(io.Discard, r.Body, maxSkipped+1); !errors.Is(err, io.EOF) {
		return false
	}
	return connection.SetReadDeadline(time.Time{}) == nil
}

// lingering is for how long the body of a request that has been answered is still read, by HTTP/1.1 and to be dropped: to
// close a connection while bytes arrive would reset it, and could take the answer away from the client.
const lingering = time.Second

var copyBuffers = sync.Pool{New: func() any {
	buffer := make([]byte, 32<<10)
	return &buffer
}}

// bodyWriter is a ResponseWriter whose header goes by way of Distribution, which logs and counts it, and whose body
// goes straight to the connection.
type bodyWriter struct {
	http.ResponseWriter
	ctx     context.Context
	request *request
	bare    io.Writer
	written int64
	// uncounted is the part of it that Distribution does not know of.
	uncounted int64
	err       error
}

func newBodyWriter(ctx context.Context, w http.ResponseWriter) *bodyWriter {
	b := &bodyWriter{ResponseWriter: w, ctx: ctx, request: requestOf(ctx), bare: w}
	if b.request != nil {
		b.bare = b.request.bare
	}
	return b
}

// Write implements io.Writer.
func (b *bodyWriter) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p)
	b.note(int64(n), err)
	return n, err
}

// ReadFrom implements io.ReaderFrom, by which http.ServeContent hands over a file or a transfer.
func (b *bodyWriter) ReadFrom(source io.Reader) (int64, error) {
	limited, ok := source.(*io.LimitedReader)
	if !ok {
		return b.copy(source)
	}
	if content, ok := limited.R.(*transferContent); ok {
		n, err := content.reader.Copy(b.ctx, writerFunc(b.copyTo), content.position, limited.N)
		b.note(0, err)
		limited.N -= n
		return n, err
	}
	return b.copy(source)
}

// copyTo is for the parts of transfers. The next part may be a while, so nothing is kept in a buffer.
func (b *bodyWriter) copyTo(source io.Reader) (int64, error) {
	n, err := b.copy(source)
	if flusher, ok := b.bare.(http.Flusher); ok && err == nil {
		flusher.Flush()
	}
	b.request.relax() // The time until the next part comes is not the client's.
	return n, err
}

// copy sends piece by piece, so that a client that stops reading holds up nothing for ever.
func (b *bodyWriter) copy(source io.Reader) (n int64, err error) {
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

func (b *bodyWriter) copyPiece(source io.Reader) (n int64, err error) {
	b.request.extend()
	begun := time.Now()
	if direct, ok := b.bare.(io.ReaderFrom); ok {
		n, err = direct.ReadFrom(source)
	} else {
		buffer := copyBuffers.Get().(*[]byte)
		n, err = io.CopyBuffer(struct{ io.Writer }{b.bare}, source, *buffer)
		copyBuffers.Put(buffer)
	}
	b.request.took(n, time.Since(begun))
	b.uncounted += n
	b.note(n, err)
	return n, err
}

// count tells Distribution of the bytes that went past it.
func (b *bodyWriter) count() {
	if b.request == nil || b.request.counted == nil {
		return
	}
	b.request.counted.counting = true
	defer func() { b.request.counted.counting = false }()
	for b.uncounted > 0 {
		n, _ := b.ResponseWriter.Write(nothing[:min(b.uncounted, int64(len(nothing)))])
		b.uncounted -= int64(n)
	}
}

func (b *bodyWriter) note(n int64, err error) {
	b.written += n
	if err != nil && b.err == nil {
		b.err = err
	}
}

// writerFunc is an io.Writer that prefers to read.
type writerFunc func(io.Reader) (int64, error)

// ReadFrom implements io.ReaderFrom.
func (f writerFunc) ReadFrom(source io.Reader) (int64, error) { return f(source) }

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) {
	n, err := f(bytes.NewReader(p))
	return int(n), err
}

// transferContent makes a transfer look like a file to http.ServeContent, which seeks for the size and then to its ranges.
type transferContent struct {
	reader   *transfer.Reader
	size     int64
	position int64
}

// Seek implements io.Seeker.
func (c *transferContent) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		c.position = offset
	case io.SeekCurrent:
		c.position += offset
	case io.SeekEnd:
		c.position = c.size + offset
	}
	return c.position, nil
}

// Read implements io.Reader, for requests of several ranges.
func (c *transferContent) Read(p []byte) (int, error) {
	left := c.size - c.position
	if left <= 0 {
		return 0, io.EOF
	}
	target := &sliceWriter{buffer: p}
	n, err := c.reader.Copy(context.Background(), target, c.position, min(int64(len(p)), left))
	c.position += n
	return int(n), err
}

// sliceWriter fills a slice.
type sliceWriter struct {
	buffer []byte
	filled int
}

// Write implements io.Writer.
func (s *sliceWriter) Write(p []byte) (int, error) {
	n := copy(s.buffer[s.filled:], p)
	s.filled += n
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}
