// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifests"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/referrers"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

// allowedMethods are the methods of a cache.
const allowedMethods = "GET, HEAD, OPTIONS"

// API configures how an engine serves the registry API.
type API struct {
	// Prefix is the path prefix before /v2/.
	Prefix string
	// Header is put on each response.
	Header http.Header
	// AccessControlled means that Distribution authorizes requests, so all reads go through it.
	AccessControlled bool
	// Observed means that other middlewares or receivers of notifications have to see each request for a manifest.
	Observed bool
}

// Handler serves the registry API. It serves referrers, which Distribution lacks, and manifests that are in memory, for
// which Distribution's routing, contexts and logging would cost more than serving them. It passes all other read
// requests to Distribution's application. The gate decides about each request first. LimitClients has to wrap the
// handler of the server.
func (e *Engine) Handler(api API, app http.Handler) http.Handler {
	return response.Guard(api.ReadOnly(e.spareVolume(api, e.gate.Wrap(api.Prefix, api.setHeader, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := route.Parse(api.Prefix, r.URL.Path)
		response.From(r.Context()).Requested(to)
		direct := r.Method != http.MethodOptions && !api.AccessControlled && e.gate.Passed(r.Context(), to.Repository)
		if direct && to.Kind == route.Manifest && !api.Observed && e.serveAtHand(api, w, r, to) {
			return
		}
		if e.volume.Hangs() {
			api.refuseStuck(w, r)
			return
		}
		defer response.From(r.Context()).Watch()()
		if direct && to.Kind == route.Referrers && e.serveReferrers(api, w, r, to) {
			return
		}
		app.ServeHTTP(w, r)
	})))))
}

// spareVolume refuses requests that need the volume while it hangs, before the gate decides, which could need the volume
// as well. Whether a manifest is in memory is only for clients to know that the gate lets through.
func (e *Engine) spareVolume(api API, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.volume.Hangs() {
			if to := route.Parse(api.Prefix, r.URL.Path); to.Kind != route.Manifest {
				response.From(r.Context()).Requested(to)
				api.refuseStuck(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// refuseStuck sends a client to another source while the volume hangs.
func (a API) refuseStuck(w http.ResponseWriter, r *http.Request) {
	a.setHeader(w.Header())
	_ = errcode.ServeJSON(w, response.Error(r.Context(), transfer.ErrStuck, nil))
}

// LimitClients makes a server disconnect clients that are too slow; see package response. It wraps the complete handler.
func (e *Engine) LimitClients(server *http.Server) {
	response.Wrap(server, e.options.ClientTimeout, e.volume, e.log, e.journal.Record)
}

// RequestsCertificates reports whether clients identify themselves by certificates, which the server has to ask for,
// but not to verify.
func (e *Engine) RequestsCertificates() bool { return e.gate.RequestsCertificates() }

// AdmitsDebug reports whether a request may see more of the server than health and metrics.
func (e *Engine) AdmitsDebug(r *http.Request) bool { return e.gate.AdmitsDebug(r) }

// ReadOnly passes requests to read on, without their bodies, and refuses all others. It closes their connections, since
// their bodies would otherwise come before the next request.
func (a API) ReadOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if response.IsRead(r.Method) {
			next.ServeHTTP(w, withoutBody(r))
			return
		}
		header := w.Header()
		a.setHeader(header)
		header.Set("Allow", allowedMethods)
		header.Set("Connection", "close")
		_ = errcode.ServeJSON(w, errcode.ErrorCodeUnsupported.WithMessage("a cache takes no content: push to the upstream registry"))
	})
}

func (a API) setHeader(header http.Header) {
	header.Set("Docker-Distribution-API-Version", "registry/2.0")
	for name, values := range a.Header {
		for _, value := range values {
			header.Add(name, value)
		}
	}
}

// withoutBody drops the body of a request. Distribution would parse a form in it, and keep parts of that in memory and in
// files.
func withoutBody(r *http.Request) *http.Request {
	if r.ContentLength == 0 {
		return r
	}
	bare := *r
	bare.Body, bare.ContentLength, bare.TransferEncoding = http.NoBody, 0, nil
	return &bare
}

// serveAtHand serves a manifest that is in memory and that the client accepts, with the response that Distribution
// would send.
func (e *Engine) serveAtHand(api API, w http.ResponseWriter, r *http.Request, to route.Route) bool {
	m, ok := e.atHand(r, to)
	if !ok {
		return false
	}
	e.metrics.Requests.WithLabelValues(metrics.Manifest).Inc()
	header := w.Header()
	api.setHeader(header)
	header.Set("Content-Type", m.MediaType)
	header.Set("Content-Length", strconv.Itoa(len(m.Content)))
	header.Set("Docker-Content-Digest", m.Digest.String())
	header.Set("ETag", `"`+m.Digest.String()+`"`)
	e.manifests.RecordServed(r.Context(), to.Repository, m)
	if r.Method == http.MethodGet {
		_, _ = w.Write(m.Content)
	}
	return true
}

func (e *Engine) atHand(r *http.Request, to route.Route) (content.Manifest, bool) {
	if r.Header["If-None-Match"] != nil {
		return content.Manifest{}, false
	}
	d, err := digest.Parse(to.Reference)
	if err != nil {
		var ok bool
		if d, ok = e.tags.Fresh(to.Repository, to.Reference); !ok {
			return content.Manifest{}, false
		}
	}
	m, ok := e.manifests.Recent(to.Repository, d)
	return m, ok && manifests.Accepts(r.Header, m.MediaType)
}

// serveReferrers serves a list of what refers to a manifest. It returns false for a path without a valid repository and
// digest; Distribution then responds.
func (e *Engine) serveReferrers(api API, w http.ResponseWriter, r *http.Request, to route.Route) bool {
	d, ok := subject(to)
	if !ok {
		return false
	}
	api.setHeader(w.Header())
	ctx := r.Context()
	artifactType := r.URL.Query().Get("artifactType")
	list, err := e.referrers.Get(ctx, to.Repository, d, artifactType)
	switch {
	case errors.Is(err, referrers.ErrUnsupported):
		response.From(ctx).Note(event.NotFound, err.Error())
		err = errcode.ErrorCodeManifestUnknown.WithMessage(err.Error()).WithDetail(d)
	case err != nil:
		err = response.Error(ctx, err, errcode.ErrorCodeManifestUnknown.WithDetail(d))
	}
	if err != nil {
		_ = errcode.ServeJSON(w, err)
		return true
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", v1.MediaTypeImageIndex)
	w.Header().Set("Content-Length", strconv.Itoa(len(list)))
	response.From(ctx).Extend()
	_, _ = w.Write(list) //nolint:gosec // It is JSON that was marshalled here, and declared as such.
	return true
}

// subject returns the manifest whose referrers a route is for.
func subject(to route.Route) (digest.Digest, bool) {
	if _, err := reference.WithName(to.Repository); err != nil {
		return "", false
	}
	d, err := digest.Parse(to.Reference)
	return d, err == nil
}
