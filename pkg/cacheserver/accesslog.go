// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"context"
	"io"
	"net/http"

	gorillahandlers "github.com/gorilla/handlers"
)

// accessLogged logs requests as the stock registry does. Its logger counts the bytes that are written, and not those that
// the kernel sends from files. So these are written once more, to where the logger counts them, and end behind it.
func accessLogged(out io.Writer, next http.Handler) http.Handler {
	logged := gorillahandlers.CombinedLoggingHandler(out, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if connection, ok := r.Context().Value(connectionKey{}).(*connection); ok {
			w = &counter{ResponseWriter: w, connection: connection}
		}
		next.ServeHTTP(w, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(io.ReaderFrom); ok { // With HTTP/2 there is none, and all bytes are written.
			behind := &connection{ResponseWriter: w}
			w, r = behind, r.WithContext(context.WithValue(r.Context(), connectionKey{}, behind))
		}
		logged.ServeHTTP(w, r)
	})
}

type connectionKey struct{}

// connection is what is behind the logger.
type connection struct {
	http.ResponseWriter
	counting bool
}

// Write implements io.Writer.
func (c *connection) Write(p []byte) (int, error) {
	if c.counting {
		return len(p), nil
	}
	return c.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (c *connection) ReadFrom(source io.Reader) (int64, error) {
	return c.ResponseWriter.(io.ReaderFrom).ReadFrom(source)
}

// Flush implements http.Flusher.
func (c *connection) Flush() { flush(c.ResponseWriter) }

// Unwrap is for http.ResponseController.
func (c *connection) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// counter is what is before the logger.
type counter struct {
	http.ResponseWriter
	connection *connection
}

// nothing stands for bytes that only have to be counted.
var nothing [1 << 20]byte

// ReadFrom implements io.ReaderFrom.
func (c *counter) ReadFrom(source io.Reader) (int64, error) {
	n, err := c.connection.ReadFrom(source)
	c.connection.counting = true
	for left := n; left > 0; {
		counted, _ := c.Write(nothing[:min(left, int64(len(nothing)))])
		left -= int64(counted)
	}
	c.connection.counting = false
	return n, err
}

// Flush implements http.Flusher.
func (c *counter) Flush() { flush(c.ResponseWriter) }

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func flush(w http.ResponseWriter) {
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
}
