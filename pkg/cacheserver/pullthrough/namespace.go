// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/upstream"
)

// namespace is what Distribution sees: its own registry, whose repositories fetch what they miss.
type namespace struct {
	distribution.Namespace
	engine *Engine
}

// Repository implements distribution.Namespace.
func (n *namespace) Repository(_ context.Context, name reference.Named) (distribution.Repository, error) {
	return &repository{namespace: n, name: name}, nil
}

// Close ends the engine with Distribution's application.
func (n *namespace) Close() error { return n.engine.Close() }

type repository struct {
	namespace *namespace
	name      reference.Named
}

// ownedName is the name of a repository, by which quiet finds it again.
type ownedName struct {
	reference.Named
	owner *repository
}

// Named implements distribution.Repository.
func (r *repository) Named() reference.Named { return ownedName{r.name, r} }

// Manifests implements distribution.Repository.
func (r *repository) Manifests(context.Context, ...distribution.ManifestServiceOption) (distribution.ManifestService, error) {
	return &manifestService{engine: r.namespace.engine, repository: r.name.Name()}, nil
}

// Blobs implements distribution.Repository.
func (r *repository) Blobs(context.Context) distribution.BlobStore {
	return &blobStore{engine: r.namespace.engine, repository: r.name.Name()}
}

// Tags implements distribution.Repository.
func (r *repository) Tags(context.Context) distribution.TagService {
	return &tagService{engine: r.namespace.engine, repository: r.name.Name(), owner: r}
}

// document returns a list from the upstream; requests at the same time share one answer.
func (e *Engine) document(ctx context.Context, repository, path string, query url.Values) (upstream.Document, error) {
	call, joined := e.documents.Start(repository+"/"+path+"?"+query.Encode(), func(ctx context.Context) (upstream.Document, error) {
		return e.upstream.List(ctx, repository, path, query)
	})
	if joined {
		e.metrics.Coalesced.WithLabelValues(metrics.Manifest).Inc()
	}
	return call.Wait(ctx)
}

// Referrers answers /v2/<name>/referrers/<digest>, which Distribution does not know, with what the upstream says. It
// passes other requests on. It must not be used where Distribution controls access.
func (e *Engine) Referrers(prefix string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, d, ok := referrersPath(strings.TrimPrefix(r.URL.Path, strings.TrimSuffix(prefix, "/")))
		if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		ctx := context.WithValue(r.Context(), "http.response", w) //nolint:staticcheck // Distribution's key.
		query := url.Values{}
		if types := r.URL.Query()["artifactType"]; len(types) > 0 {
			query["artifactType"] = types[:1]
		}
		document, err := e.document(ctx, name, "referrers/"+d.String(), query)
		if err != nil {
			_ = errcode.ServeJSON(w, clientError(ctx, err, errcode.ErrorCodeManifestUnknown.WithDetail(d)))
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		if document.Filters != "" {
			w.Header().Set("OCI-Filters-Applied", document.Filters)
		}
		_, _ = w.Write(document.Content)
	})
}

// referrersPath reads /v2/<name>/referrers/<digest>.
func referrersPath(path string) (name string, d digest.Digest, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", "", false
	}
	cut := strings.LastIndex(rest, "/referrers/")
	if cut < 0 {
		return "", "", false
	}
	named, err := reference.WithName(rest[:cut])
	if err != nil {
		return "", "", false
	}
	d, err = digest.Parse(rest[cut+len("/referrers/"):])
	return named.Name(), d, err == nil
}
