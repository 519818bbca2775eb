// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package response is the client's side of a request: its state, its deadlines, its body and its errors.
//
// Wrap wraps the complete handler of a server and gives each request one Writer, which everything below finds in the
// request's context. What wraps the Writer on the way down, such as loggers, metrics and Distribution, hides the
// connection's io.ReaderFrom, without which each byte is copied through the process. So a Body writes to the connection
// itself, and tells the wrappers afterwards how many bytes that were.
package response

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

// pieceBytes is how much a client has to take within its timeout.
const pieceBytes = 4 << 20

// smallBytes is what net/http buffers with the header until the handler returns.
const smallBytes = 2 << 10

// farAway is a deadline that never passes.
const farAway = 365 * 24 * time.Hour

// Writer is the ResponseWriter of one request, next to the connection, and the state of the request. Methods that
// accept a nil Writer are for handlers that Wrap does not wrap.
type Writer struct {
	http.ResponseWriter
	log logrus.FieldLogger
	// event becomes what is recorded of the request when it ends. Its kind is empty unless the request is for content.
	event event.Event

	// timeout is how long a client may take for one piece. taken and spent are the bytes and the time of the current
	// piece so far.
	timeout time.Duration
	taken   int64
	spent   time.Duration

	// connection and volume are what is watched; see Watch.
	connection *net.TCPConn
	volume     *volume.Monitor
	watch      *watch

	// counting is set while Finish replays the body's length to the wrappers: Write then discards its bytes, which the
	// client already has.
	counting bool
	// aborted is set when the response cannot be completed.
	aborted bool
	// returned is set when the handler did not panic.
	returned bool
	// unreachable is set when the client does not take the response.
	unreachable bool
}

type contextKey struct{}

// From returns the Writer of a request by its context, nil outside of Wrap.
func From(ctx context.Context) *Writer {
	w, _ := ctx.Value(contextKey{}).(*Writer)
	return w
}

// WriteHeader implements http.ResponseWriter.
func (w *Writer) WriteHeader(status int) {
	if w.event.Status < http.StatusOK {
		w.event.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	if w.counting {
		return len(p), nil
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent(int64(n), err)
	return n, err
}

// sent records bytes of the body that were sent to the client, past the wrappers or not.
func (w *Writer) sent(n int64, err error) {
	if w == nil {
		return
	}
	if w.event.Status < http.StatusOK {
		w.event.Status = http.StatusOK
	}
	w.event.Bytes += n
	w.unreachable = w.unreachable || err != nil
}

// Flush implements http.Flusher.
func (w *Writer) Flush() {
	if flusher, ok := w.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}

// Unwrap serves http.ResponseController.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Client returns the client's address, empty if it is unknown.
func (w *Writer) Client() string {
	if w == nil {
		return ""
	}
	return w.event.Node
}

// Requested declares the request one for content, so that its event is recorded.
func (w *Writer) Requested(to route.Route) {
	if w == nil {
		return
	}
	switch to.Kind {
	case route.Manifest, route.Blob, route.Tags, route.Referrers:
		w.event.Kind = to.Kind
		w.event.Repository = event.Bound(to.Repository, event.MaxRepository)
		w.event.Reference = event.Bound(to.Reference, event.MaxReference)
	}
}

// Note records how the request is served, and why it is not a hit. A request of which nothing is noted is a hit if it
// succeeds. An empty cause is left to the journal, which knows what was removed from the cache.
func (w *Writer) Note(outcome event.Outcome, cause string) {
	if w != nil {
		w.event.Outcome, w.event.Cause = outcome, cause
	}
}

// NoteUnstored records that what was fetched for the request could not be stored, for lack of space or another reason. It
// has no effect unless a fetch for the request is noted.
func (w *Writer) NoteUnstored(full bool) {
	switch {
	case w == nil || w.event.Outcome != event.Miss:
	case full:
		w.event.Outcome = event.Bypassed
	default:
		w.event.Outcome = event.NotStored
	}
}

// NoteDigest records the digest of the content.
func (w *Writer) NoteDigest(d digest.Digest) {
	if w != nil {
		w.event.Digest = d.String()
	}
}

// Fetched reports whether content had to be fetched for the request.
func (w *Writer) Fetched() bool {
	if w == nil {
		return false
	}
	return w.event.Outcome == event.Miss || w.event.Outcome == event.Bypassed || w.event.Outcome == event.NotStored
}

// Expect gives the client time to take a body of the given size. A small one needs none: net/http sends it when the
// handler has returned, see Wrap.
func (w *Writer) Expect(size int) {
	if size > smallBytes {
		w.Extend()
	}
}

// Extend gives the client time to take the next piece.
func (w *Writer) Extend() {
	if w != nil {
		w.setDeadline(w.timeout - w.spent)
	}
}

// relax replaces the deadline of Extend with one that never passes. Clearing the deadline would make net/http drop the
// stream's timer; the next deadline would start a new one, which leaks if the stream has already ended.
func (w *Writer) relax() {
	if w != nil {
		w.setDeadline(farAway)
	}
}

func (w *Writer) setDeadline(d time.Duration) {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(d)) // Recorders in tests have none.
}

// took notes the time in which the client took a part of a piece, so that many small parts get no more time than one
// large one.
func (w *Writer) took(n int64, spent time.Duration) {
	if w == nil {
		return
	}
	if w.taken += n; w.taken >= pieceBytes {
		w.taken, w.spent = 0, 0
		return
	}
	w.spent += spent
}
