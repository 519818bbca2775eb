// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
)

// API is what answers that do not come from Distribution's application have to know of its configuration.
type API struct {
	// Prefix is the path that /v2/ is below.
	Prefix string
	// Header is put on each answer.
	Header http.Header
}

// read returns the parts of a request to read /v2/<name>/<kind>/<last>.
func (a API) read(r *http.Request, kind string) (name, last string, ok bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "", "", false
	}
	rest, ok := strings.CutPrefix(r.URL.Path, strings.TrimSuffix(a.Prefix, "/")+"/v2/")
	if !ok {
		return "", "", false
	}
	parent, last := path.Split(rest)
	name, ok = strings.CutSuffix(parent, "/"+kind+"/")
	return name, last, ok
}

func (a API) setHeader(header http.Header) {
	header.Set("Docker-Distribution-API-Version", "registry/2.0")
	for name, values := range a.Header {
		for _, value := range values {
			header.Add(name, value)
		}
	}
}

// Manifests answers requests for manifests that are at hand: in memory, and, if asked for by a tag, within the time that
// it is fresh. It answers as Distribution does, whose routing, contexts and log lines cost more than all the rest of such
// an answer, and passes other requests on. It must not be used where Distribution controls access, nor where somebody is
// to know of each request.
func (e *Engine) Manifests(api API, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, ok := e.atHand(api, r)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		e.metrics.Requests.WithLabelValues(metrics.Manifest).Inc()
		header := w.Header()
		api.setHeader(header)
		header.Set("Content-Type", m.mediaType)
		header.Set("Content-Length", strconv.Itoa(len(m.content)))
		header.Set("Docker-Content-Digest", m.digest.String())
		header.Set("ETag", `"`+m.digest.String()+`"`)
		e.answer(&request{bare: w, timeout: e.options.ClientTimeout}, m)
		if r.Method == http.MethodGet {
			_, _ = w.Write(m.content)
		}
	})
}

// atHand returns the manifest that a request asks for, if nothing has to be read, asked or negotiated for that.
func (e *Engine) atHand(api API, r *http.Request) (storedManifest, bool) {
	repository, reference, ok := api.read(r, "manifests")
	if !ok || r.Header["If-None-Match"] != nil {
		return storedManifest{}, false
	}
	d, err := digest.Parse(reference)
	if err != nil {
		if d, ok = e.fresh.get(repository, reference, e.now()); !ok {
			return storedManifest{}, false
		}
	}
	m, ok := e.recent.get(repository, d)
	return m, ok && accepts(r.Header["Accept"], m.mediaType)
}
