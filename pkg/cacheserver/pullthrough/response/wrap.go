// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package response

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

const (
	// maxSkippedBody bounds the body of a request to read.
	maxSkippedBody = 4 << 10
	// lingerTimeout is how long HTTP/1.1 goes on reading the body of a request that has its response. Closing a
	// connection while bytes arrive would reset it, and could take the response away from the client.
	lingerTimeout = time.Second
)

// Wrap wraps the complete handler of a server: it gives each request a Writer, bounds the time that clients have, and
// hands over the event of each request for content when it ends, however that is.
//
// The timeout applies to the end of a response, which net/http sends after the handler returns, and to a request body.
// Otherwise, a client that neither reads nor writes would keep its connection forever. The handler's own work does not
// count. Handlers do not read request bodies. The small body of a GET, HEAD or OPTIONS request is discarded first.
func Wrap(server *http.Server, timeout time.Duration, volume *volume.Monitor, log logrus.FieldLogger, record func(event.Event)) {
	next := server.Handler
	server.ConnContext = withConnection
	server.WriteTimeout = timeout
	server.HTTP2 = &http.HTTP2Config{WriteByteTimeout: timeout} // The deadline of a stream does not bound the connection.
	server.Handler = http.HandlerFunc(func(inner http.ResponseWriter, r *http.Request) {
		client, _, _ := net.SplitHostPort(r.RemoteAddr)
		w := &Writer{ResponseWriter: inner, log: log, timeout: timeout, volume: volume, connection: connectionOf(r)}
		w.event = event.Event{Time: time.Now(), Method: r.Method, Node: client}
		w.relax()
		// HTTP/1.1 would wait for an unread body before it sends the response, to keep the connection.
		unread := r.ProtoMajor == 1 && r.ContentLength != 0
		if unread {
			w.Header().Set("Connection", "close")
		}
		defer func() { // Even if the handler panics.
			if w.isCut() { // What the handler noted is about a response that has ended.
				w.fail(r.Context(), transfer.ErrStuck)
			}
			if w.event.Kind != "" {
				record(w.ended())
			}
			w.taken, w.spent = 0, 0
			w.Extend()
			if unread {
				_ = http.NewResponseController(inner).SetReadDeadline(time.Now().Add(min(timeout, lingerTimeout)))
			}
		}()
		if unread && IsRead(r.Method) && !skipBody(inner, r, min(timeout, lingerTimeout)) {
			_ = errcode.ServeJSON(w, errBadRequest.WithMessage("the request body is too large or did not arrive in time; send GET and HEAD requests without a body"))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, w)))
		w.returned = true
		if w.aborted {
			panic(http.ErrAbortHandler) // The only way to show the client that its response is incomplete.
		}
	})
}

// ended returns the event of a request that has ended.
func (w *Writer) ended() event.Event {
	e := w.event
	e.Duration = time.Since(e.Time)
	if e.Status < http.StatusOK && w.returned {
		e.Status = http.StatusOK // net/http sends it for a handler that returns without a header.
	}
	if e.Method == http.MethodHead || e.Status >= http.StatusBadRequest {
		e.Bytes = 0 // The body was not sent, or is not content.
	}
	if e.Digest == "" && e.Kind != route.Referrers {
		if d, err := digest.Parse(e.Reference); err == nil {
			e.Digest = d.String()
		}
	}
	failed := e.Outcome == event.NotFound || e.Outcome == event.Failed || e.Outcome == event.Canceled || e.Outcome == event.Denied
	switch {
	case failed:
	case e.Status == http.StatusNotFound:
		e.Outcome, e.Cause = event.NotFound, event.CauseRefused
	case e.Status < http.StatusOK, e.Status >= http.StatusBadRequest:
		e.Outcome, e.Cause = event.Failed, event.CauseRefused
	case e.Outcome == "":
		e.Outcome = event.Hit
	}
	e.Cause = event.Bound(e.Cause, event.MaxCause)
	return e
}

// IsRead reports whether a request with the method only reads.
func IsRead(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// skipBody reads a body to its end, and reports whether that arrived in time. net/http notices a disconnected client
// only after the request body has been read.
func skipBody(w http.ResponseWriter, r *http.Request, timeout time.Duration) bool {
	connection := http.NewResponseController(w)
	if connection.SetReadDeadline(time.Now().Add(timeout)) != nil {
		return false
	}
	if _, err := io.CopyN(io.Discard, r.Body, maxSkippedBody+1); !errors.Is(err, io.EOF) {
		return false
	}
	return connection.SetReadDeadline(time.Time{}) == nil
}

// Guard catches http.ErrAbortHandler so that the outer wrappers, such as loggers and metrics, still run. Wrap aborts
// the response after they have returned.
func Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := From(r.Context())
		defer func() {
			reason := recover()
			if err, ok := reason.(error); ok && errors.Is(err, http.ErrAbortHandler) && state != nil {
				state.aborted = true
			} else if reason != nil {
				panic(reason)
			}
		}()
		next.ServeHTTP(w, r)
	})
}
