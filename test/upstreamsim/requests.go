// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is a kind of request.
type Kind string

// The kinds of requests. Push is everything that changes a repository.
const (
	Ping         Kind = "ping"
	Token        Kind = "token"
	ManifestGet  Kind = "manifest GET"
	ManifestHead Kind = "manifest HEAD"
	BlobGet      Kind = "blob GET"
	BlobHead     Kind = "blob HEAD"
	Tags         Kind = "tags"
	Referrers    Kind = "referrers"
	Push         Kind = "push"
	Other        Kind = "other"
)

var (
	endpoints = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)$`)
	uploads   = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/[^/]*$`)
)

// request is a request with its classification.
type request struct {
	*http.Request
	kind            Kind
	name, reference string
	faults          Faults
	changed         <-chan struct{}
}

// classify parses the path of a request.
func classify(httpRequest *http.Request) request {
	req := request{Request: httpRequest, kind: Other}
	switch httpRequest.URL.Path {
	case "/v2/", "/v2":
		req.kind = Ping
		return req
	case TokenPath:
		req.kind = Token
		return req
	}
	if match := uploads.FindStringSubmatch(httpRequest.URL.Path); match != nil {
		req.kind, req.name = Push, match[1]
		return req
	}
	match := endpoints.FindStringSubmatch(httpRequest.URL.Path)
	if match == nil {
		return req
	}
	req.name, req.reference = match[1], match[3]
	head := httpRequest.Method == http.MethodHead
	switch endpoint := match[2]; {
	case !head && httpRequest.Method != http.MethodGet:
		req.kind = Push
	case endpoint == "manifests" && head:
		req.kind = ManifestHead
	case endpoint == "manifests":
		req.kind = ManifestGet
	case endpoint == "blobs" && head:
		req.kind = BlobHead
	case endpoint == "blobs":
		req.kind = BlobGet
	case endpoint == "tags":
		req.kind = Tags
	default:
		req.kind = Referrers
	}
	return req
}

// scope returns the scope that the request needs.
func (req request) scope() scope {
	switch {
	case req.name == "":
		return scope{}
	case req.Method == http.MethodDelete:
		return scope{name: req.name, actions: []string{"delete"}}
	case req.kind == Push:
		return scope{name: req.name, actions: []string{"pull", "push"}}
	default:
		return scope{name: req.name, actions: []string{"pull"}}
	}
}

func (req request) bearerToken() (string, bool) {
	return strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
}

// Request is a request with its outcome.
type Request struct {
	Time time.Time
	Kind Kind
	// Client is the IP address of the client.
	Client string
	// User is the user name in the request, even if the password was wrong. It is empty without one.
	User   string
	Agent  string
	Method string
	Path   string
	Status int
}

// Recorder records requests. Its Observe is an Options.Observe.
type Recorder struct {
	mu       sync.Mutex
	requests []Request
}

// Observe records a request.
func (r *Recorder) Observe(request Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request)
}

// Reset drops all recorded requests.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// Requests returns the requests of the given kinds since the last reset, by default those of all kinds.
func (r *Recorder) Requests(kinds ...Kind) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Request
	for _, request := range r.requests {
		if len(kinds) == 0 || slices.Contains(kinds, request.Kind) {
			found = append(found, request)
		}
	}
	return found
}

// observed serves a request and reports it as soon as its status is known, which is before the client knows it: a pull
// that is over has been reported completely.
func (r *Registry) observed(w http.ResponseWriter, req request, serve func(http.ResponseWriter)) {
	if r.options.Observe == nil {
		serve(w)
		return
	}
	client, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		client = req.RemoteAddr
	}
	seen := Request{
		Time:   time.Now(),
		Kind:   req.kind,
		Client: client,
		User:   r.user(req),
		Agent:  req.UserAgent(),
		Method: req.Method,
		Path:   req.URL.Path,
	}
	writer := &statusWriter{ResponseWriter: w, report: func(status int) {
		seen.Status = status
		r.options.Observe(seen)
	}}
	serve(writer)
	writer.known(http.StatusOK)
}

func (r *Registry) user(req request) string {
	if token, ok := req.bearerToken(); ok {
		return r.tokens.user(token)
	}
	username, _, _ := req.BasicAuth()
	return username
}

// statusWriter reports the status of a response once.
type statusWriter struct {
	http.ResponseWriter
	report   func(status int)
	reported bool
}

// WriteHeader reports the status and writes it.
func (w *statusWriter) WriteHeader(status int) {
	w.known(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write reports the status that a body without one implies.
func (w *statusWriter) Write(p []byte) (int, error) {
	w.known(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// Unwrap gives http.ResponseController access to the wrapped writer.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) known(status int) {
	if !w.reported {
		w.reported = true
		w.report(status)
	}
}
