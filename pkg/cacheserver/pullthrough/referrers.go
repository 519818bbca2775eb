// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

const (
	// maxReferrers is the size of the largest list of referrers, put together from all of its pages, in bytes.
	maxReferrers = 4 << 20
	// maxStoredReferrers is the size of the largest one that is kept for outages.
	maxStoredReferrers = 256 << 10
)

// referrers is a list of what refers to a manifest. Its descriptors are passed on as the upstream sent them.
type referrers struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []json.RawMessage `json:"manifests"`
}

// Referrers answers /v2/<name>/referrers/<digest>, which Distribution does not know, with what the upstream says, or,
// if it does not answer, with what it last said. It passes other requests on. It must not be used where Distribution
// controls access.
func (e *Engine) Referrers(api API, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, d, ok := referrersPath(api, r)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		api.setHeader(w.Header())
		state := &request{bare: w, timeout: e.options.ClientTimeout, log: e.log, path: r.URL.Path}
		ctx := context.WithValue(context.WithValue(r.Context(), requestKey{}, state), "http.response", w) //nolint:staticcheck // Distribution's key.
		artifactType := r.URL.Query().Get("artifactType")
		content, err := e.referrersOfType(ctx, name, d, artifactType)
		if errors.Is(err, errNoReferrers) {
			err = errcode.ErrorCodeManifestUnknown.WithMessage(err.Error()).WithDetail(d)
			_ = errcode.ServeJSON(w, err)
			return
		}
		if err != nil {
			_ = errcode.ServeJSON(w, clientError(ctx, err, errcode.ErrorCodeManifestUnknown.WithDetail(d)))
			return
		}
		if artifactType != "" {
			w.Header().Set("OCI-Filters-Applied", "artifactType")
		}
		w.Header().Set("Content-Type", v1.MediaTypeImageIndex)
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		state.extend()
		_, _ = w.Write(content) //nolint:gosec // It is JSON that was marshalled here, and declared as such.
	})
}

// referrersOfType returns the part of a list that has an artifact type, or all of it if that is empty. Clients that ask for
// the same part at the same time share it.
func (e *Engine) referrersOfType(ctx context.Context, repository string, d digest.Digest, artifactType string) ([]byte, error) {
	if artifactType == "" {
		return e.referrers(ctx, repository, d)
	}
	call, joined := e.lists.Start(repository+"@"+d.String()+"?"+artifactType, func(ctx context.Context) ([]byte, error) {
		content, err := e.referrers(ctx, repository, d)
		if err != nil {
			return nil, err
		}
		err = e.inTurn(ctx, func() error {
			content = ofType(content, artifactType)
			return nil
		})
		return content, err
	})
	e.coalesced(joined)
	return call.Wait(ctx)
}

// referrers returns the whole list of what refers to a manifest.
func (e *Engine) referrers(ctx context.Context, repository string, d digest.Digest) ([]byte, error) {
	stored, ok := e.index.Referrers(repository, d)
	fetch := func() (*coalesce.Call[[]byte], bool) {
		return e.lists.Start(repository+"@"+d.String(), func(ctx context.Context) ([]byte, error) {
			return e.fetchReferrers(ctx, repository, d)
		})
	}
	if ok && e.down(func() { fetch() }) {
		return stored, nil
	}
	call, joined := fetch()
	if joined {
		e.metrics.Coalesced.WithLabelValues(metrics.Manifest).Inc()
	}
	if !ok {
		return call.Wait(ctx)
	}
	content, err := call.WaitUntil(ctx, call.Begun.Add(e.patience()))
	if err != nil && ctx.Err() == nil && !remote.Is(err, remote.NotFound) {
		return stored, nil
	}
	return content, err
}

// fetchReferrers puts the upstream's pages together, and keeps the list as long as the manifest.
func (e *Engine) fetchReferrers(ctx context.Context, repository string, d digest.Digest) ([]byte, error) {
	list := referrers{SchemaVersion: 2, MediaType: v1.MediaTypeImageIndex, Manifests: []json.RawMessage{}}
	size := 0
	first := true
	err := e.pages(ctx, repository, "referrers/"+d.String(), nil, func(page remote.Document) error {
		part, err := e.parseReferrers(page)
		if err != nil && !first {
			err = e.invalid("a page of its list of referrers is not one")
		}
		first = false
		if size += len(page.Content); err == nil && size > maxReferrers {
			err = e.invalid("its list of referrers is too long")
		}
		list.Manifests = append(list.Manifests, part.Manifests...)
		return err
	})
	if first && refusesReferrers(err) {
		return nil, fmt.Errorf("%w: %w", errNoReferrers, err)
	}
	if err != nil {
		return nil, err
	}
	var content []byte
	err = e.inTurn(ctx, func() (err error) {
		content, err = json.Marshal(list)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(content) <= maxStoredReferrers {
		if err := e.index.SetReferrers(repository, d, content); err != nil {
			e.log.WithError(err).Warn("Could not record a list of referrers")
		}
	}
	return content, nil
}

// errNoReferrers says that the upstream does not list referrers, in one of the many ways in which upstreams say so. Clients
// look for them by tag then, but only if they are told 404.
var errNoReferrers = errors.New("the upstream does not list referrers")

// refusesReferrers reports whether an error says that there is no such list. That the cache may not see it, or not now, says
// nothing of that kind.
func refusesReferrers(err error) bool {
	switch status := remote.StatusOf(err); status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return status >= 400 && status < 500 || status == http.StatusNotImplemented
	}
}

// parseReferrers reads a page. What is no list must not be passed on as one, such as the login page of a portal.
func (e *Engine) parseReferrers(page remote.Document) (referrers, error) {
	var list referrers
	if manifest.CheckBounds(page.Content) != nil {
		return referrers{}, e.invalid("its list of referrers is too long")
	}
	err := json.Unmarshal(page.Content, &list)
	if err != nil || list.SchemaVersion != 2 || list.Manifests == nil || list.MediaType != "" && list.MediaType != v1.MediaTypeImageIndex {
		return referrers{}, errNoReferrers
	}
	return list, nil
}

// ofType returns the part of a list that has an artifact type.
func ofType(content []byte, artifactType string) []byte {
	var list referrers
	if err := json.Unmarshal(content, &list); err != nil {
		return content // It is one of ours.
	}
	wanted := list.Manifests[:0]
	for _, manifest := range list.Manifests {
		var descriptor v1.Descriptor
		if json.Unmarshal(manifest, &descriptor) == nil && descriptor.ArtifactType == artifactType {
			wanted = append(wanted, manifest)
		}
	}
	list.Manifests = wanted
	if filtered, err := json.Marshal(list); err == nil {
		content = filtered
	}
	return content
}

// referrersPath reads /v2/<name>/referrers/<digest>.
func referrersPath(api API, r *http.Request) (name string, d digest.Digest, ok bool) {
	name, last, ok := api.read(r, "referrers")
	if !ok {
		return "", "", false
	}
	if _, err := reference.WithName(name); err != nil {
		return "", "", false
	}
	d, err := digest.Parse(last)
	return name, d, err == nil
}
