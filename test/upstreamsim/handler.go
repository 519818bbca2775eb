// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/opencontainers/image-spec/specs-go"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const basicChallenge = `Basic realm="upstreamsim"`

func (r *Registry) serve(w http.ResponseWriter, httpRequest *http.Request) {
	req := classify(httpRequest)
	req.faults, req.changed = r.switchboard.take(req.kind)
	r.counting.update(func(c *Counters) { c.Requests[req.kind]++ })

	if sleep(req.Context(), r.options.Latency) != nil || req.faults.Hold && !req.wait() {
		return
	}
	r.observed(w, req, func(w http.ResponseWriter) { r.respond(w, req) })
}

func (r *Registry) respond(w http.ResponseWriter, req request) {
	switch {
	case req.faults.Hang:
		req.hang()
	case req.faults.Status != 0:
		for key, value := range req.faults.Headers {
			w.Header().Set(key, value)
		}
		if req.faults.Status == http.StatusUnauthorized {
			r.challenge(w, req)
		}
		fail(w, req.faults.Status, codeFor(req.faults.Status), "simulated fault")
	case req.kind == Token:
		r.tokens.ServeHTTP(w, req.Request)
	case !r.authorized(req) && r.options.Denial == Hide && req.kind != Ping && r.hasCredential(req):
		fail(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	case !r.authorized(req) && r.isKnown(req):
		fail(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
	case !r.authorized(req):
		r.challenge(w, req)
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	case r.options.Content != nil:
		r.options.Content.ServeHTTP(w, req.Request)
	case req.kind == Ping:
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		_, _ = io.WriteString(w, "{}")
	case req.kind == Other || req.kind == Push || !r.store.exists(req.name):
		fail(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	default:
		r.serveRepository(w, req)
	}
}

// serveTokens serves the token server at an address of its own.
func (r *Registry) serveTokens(w http.ResponseWriter, httpRequest *http.Request) {
	if classify(httpRequest).kind != Token {
		http.NotFound(w, httpRequest)
		return
	}
	r.serve(w, httpRequest)
}

// wait reports whether the faults changed before the client went away.
func (req request) wait() bool {
	select {
	case <-req.changed:
		return true
	case <-req.Context().Done():
		return false
	}
}

func (req request) hang() {
	req.wait()
	panic(http.ErrAbortHandler)
}

func (r *Registry) authorized(req request) bool {
	switch r.options.Authentication {
	case Basic:
		account, ok := authenticate(r.options.Accounts(), req.Request)
		if !ok {
			account = Account{Repositories: r.options.Public}
			return r.options.Public != nil && req.name != "" && account.mayUse(req.name)
		}
		return req.name == "" || account.mayUse(req.name)
	case Bearer:
		token, ok := req.bearerToken()
		return ok && r.tokens.permits(token, req.scope())
	default:
		return true
	}
}

// hasCredential reports whether a request has a credential or a token.
func (r *Registry) hasCredential(req request) bool { return req.Header.Get("Authorization") != "" }

// isKnown reports whether a request has the password of an account.
func (r *Registry) isKnown(req request) bool {
	_, ok := authenticate(r.options.Accounts(), req.Request)
	return ok && r.options.Authentication == Basic
}

// accountOf returns the account of an authorized request.
func (r *Registry) accountOf(req request) Account {
	user := r.user(req)
	for _, account := range r.options.Accounts() {
		if account.Username == user && user != "" {
			return account
		}
	}
	return Account{Repositories: r.options.Public}
}

// challenge asks the client to authenticate.
func (r *Registry) challenge(w http.ResponseWriter, req request) {
	switch r.options.Authentication {
	case Basic:
		w.Header().Set("WWW-Authenticate", basicChallenge)
	case Bearer:
		realm := r.tokenURL + TokenPath
		if r.switchboard.current().ForeignRealm {
			realm = r.origin + TokenPath
		}
		challenge := fmt.Sprintf("Bearer realm=%q,service=%q", realm, "upstreamsim")
		if scope := req.scope().String(); scope != "" {
			challenge += fmt.Sprintf(",scope=%q", scope)
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
}

func (r *Registry) serveRepository(w http.ResponseWriter, req request) {
	switch req.kind {
	case ManifestGet, ManifestHead:
		if content, ok := r.store.manifest(req.name, req.reference); ok {
			r.serveContent(w, req, content)
			return
		}
		fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown to registry")
	case BlobGet, BlobHead:
		content, ok := r.store.blob(req.name, req.reference)
		if !ok && r.options.SharedBlobs {
			content, ok = r.store.anyBlob(req.reference, r.accountOf(req).mayUse)
		}
		switch {
		case !ok:
			fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		case req.faults.RedirectBlobs:
			location := r.origin + req.URL.Path + "?signature=abc"
			http.Redirect(w, req.Request, location, http.StatusTemporaryRedirect)
		default:
			r.serveContent(w, req, content)
		}
	case Tags:
		r.serveTags(w, req)
	case Referrers:
		if r.options.NoReferrers {
			fail(w, http.StatusNotFound, "UNSUPPORTED", "no referrers API")
			return
		}
		r.serveReferrers(w, req)
	}
}

func (r *Registry) serveTags(w http.ResponseWriter, req request) {
	tags := page(r, w, req, r.store.tagList(req.name), func(tag string) string { return tag })
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"name": req.name, "tags": tags})
}

func (r *Registry) serveReferrers(w http.ResponseWriter, req request) {
	artifactType := req.URL.Query().Get("artifactType")
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	referrers := r.store.referrers(req.name, req.reference, artifactType)
	referrers = page(r, w, req, referrers, func(d imagev1.Descriptor) string { return d.Digest.String() })
	w.Header().Set("Content-Type", imagev1.MediaTypeImageIndex)
	_ = json.NewEncoder(w).Encode(imagev1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagev1.MediaTypeImageIndex, Manifests: referrers,
	})
}

// page returns the requested part of a list that is sorted by name, and links to the next one.
func page[T any](r *Registry, w http.ResponseWriter, req request, items []T, name func(T) string) []T {
	query := req.URL.Query()
	start, size := 0, len(items)
	if token, err := strconv.Atoi(query.Get("token")); err == nil {
		start = min(token, len(items))
	} else if last := query.Get("last"); last != "" && !r.options.PageTokens {
		start, _ = slices.BinarySearchFunc(items, last, func(item T, last string) int {
			if name(item) <= last {
				return -1
			}
			return 1
		})
	}
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n >= 0 {
		size = min(n, size)
	}
	if r.options.PageSize > 0 {
		size = min(r.options.PageSize, size)
	}
	end := min(start+size, len(items))
	if start < end && end < len(items) {
		query.Del("last")
		if r.options.PageTokens {
			query.Set("token", strconv.Itoa(end))
		} else {
			query.Set("last", name(items[end-1]))
		}
		w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", req.URL.Path, query.Encode()))
	}
	return items[start:end]
}

// serveForeign serves the foreign host: redirected blobs and tokens. It counts the credentials and client
// certificates that it should not see.
func (r *Registry) serveForeign(w http.ResponseWriter, httpRequest *http.Request) {
	authorized := httpRequest.Header.Get("Authorization") != "" || httpRequest.TLS != nil && len(httpRequest.TLS.PeerCertificates) > 0
	r.counting.update(func(c *Counters) {
		c.ForeignRequests++
		if authorized {
			c.ForeignAuthorizations++
		}
	})
	req := classify(httpRequest)
	if req.kind == Token {
		r.tokens.ServeHTTP(w, httpRequest)
		return
	}
	content, ok := r.store.blob(req.name, req.reference)
	if !ok {
		http.NotFound(w, httpRequest)
		return
	}
	r.serveContent(w, req, content)
}

func codeFor(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "UNAUTHORIZED"
	case http.StatusForbidden:
		return "DENIED"
	case http.StatusTooManyRequests:
		return "TOOMANYREQUESTS"
	default:
		return "UNKNOWN"
	}
}

// fail responds with an error in the format of the distribution specification.
func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
