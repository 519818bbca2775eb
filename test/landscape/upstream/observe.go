// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind tells what a request is about.
type Kind string

// The kinds of requests.
const (
	KindPing     Kind = "ping"
	KindToken    Kind = "token"
	KindManifest Kind = "manifest"
	KindBlob     Kind = "blob"
	KindUpload   Kind = "upload"
	KindOther    Kind = "other"
)

// Request is one request that was served.
type Request struct {
	Time time.Time
	// Server is the name of the server: Private, Token or Basic.
	Server string
	// Client is the IP address that the request came from.
	Client string
	// User is the user that the request came with, whether or not the password was right. Empty means none.
	User   string
	Agent  string
	Method string
	Path   string
	Status int
}

// Kind tells what the request is about.
func (r Request) Kind() Kind {
	switch {
	case r.Server == Token:
		return KindToken
	case r.Path == "/v2/" || r.Path == "/v2":
		return KindPing
	case strings.Contains(r.Path, "/manifests/"):
		return KindManifest
	case strings.Contains(r.Path, "/blobs/uploads/"):
		return KindUpload
	case strings.Contains(r.Path, "/blobs/"):
		return KindBlob
	default:
		return KindOther
	}
}

// Recorder keeps requests for a test to look at. Its Observe goes into the options.
type Recorder struct {
	mu       sync.Mutex
	requests []Request
}

// Observe keeps a request.
func (r *Recorder) Observe(request Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request)
}

// Reset forgets all requests.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// Requests are those kept since the last reset, of the given kinds, or all when none is given.
func (r *Recorder) Requests(kinds ...Kind) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Request
	for _, request := range r.requests {
		if len(kinds) == 0 || slices.Contains(kinds, request.Kind()) {
			found = append(found, request)
		}
	}
	return found
}

// observer is what is called after each request: it writes the access log and calls the options' observer.
func (o Options) observer() func(Request) {
	log := slog.New(slog.DiscardHandler)
	if o.Log != nil {
		log = slog.New(slog.NewTextHandler(o.Log, nil))
	}
	return func(r Request) {
		user := r.User
		if user == "" {
			user = "-"
		}
		log.LogAttrs(context.Background(), slog.LevelInfo, "request",
			slog.String("registry", r.Server),
			slog.String("client", r.Client),
			slog.String("user", user),
			slog.String("method", r.Method),
			slog.String("path", r.Path),
			slog.Int("status", r.Status),
			slog.String("agent", r.Agent),
		)
		if o.Observe != nil {
			o.Observe(r)
		}
	}
}

// observed reports each request of a server as soon as its status is known, which is before the client knows it:
// whoever pulled something finds the requests of that pull reported.
func observed(server string, userOf func(*http.Request) string, observe func(Request), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			client = r.RemoteAddr
		}
		request := Request{
			Time:   time.Now(),
			Server: server,
			Client: client,
			User:   userOf(r),
			Agent:  r.UserAgent(),
			Method: r.Method,
			Path:   r.URL.Path,
		}
		writer := &statusWriter{ResponseWriter: w, report: func(status int) {
			request.Status = status
			observe(request)
		}}
		next.ServeHTTP(writer, r)
		writer.known(http.StatusOK)
	})
}

func basicUser(r *http.Request) string {
	name, _, _ := r.BasicAuth()
	return name
}

// statusWriter reports the status of a response, once.
type statusWriter struct {
	http.ResponseWriter
	report   func(status int)
	reported bool
}

// WriteHeader reports the status and passes it on.
func (w *statusWriter) WriteHeader(status int) {
	w.known(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write reports the status that writing without one implies.
func (w *statusWriter) Write(p []byte) (int, error) {
	w.known(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find the writer that can do more.
func (w *statusWriter) Unwrap() http.ResponseWriter {
	return w.ResponseWriter
}

func (w *statusWriter) known(status int) {
	if !w.reported {
		w.reported = true
		w.report(status)
	}
}
