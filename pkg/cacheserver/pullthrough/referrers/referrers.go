// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package referrers serves the lists of what refers to a manifest, which Distribution lacks: as the upstream responds,
// and as it last responded if it does not.
package referrers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/source"
	"github.com/larder-project/larder/pkg/limit"
)

const (
	// maxBytes is the size of the largest list, put together from all of its pages.
	maxBytes = 4 << 20
	// maxStoredBytes is the size of the largest list that is stored for outages.
	maxStoredBytes = 256 << 10
)

// ErrUnsupported means that the upstream does not list referrers, which upstreams say in many ways. Clients that get
// status 404 look for referrers by tag.
var ErrUnsupported = errors.New("the upstream does not list referrers")

// Options are what a Service depends on.
type Options struct {
	Content *content.Content
	Source  *source.Source
	// Parsing bounds the lists that are parsed and encoded at a time.
	Parsing limit.Limit
	Metrics *metrics.Metrics
}

// Service serves the referrers of all repositories.
type Service struct {
	Options
	calls *coalesce.Group[key, result]
}

// key is a list, complete or of one artifact type.
type key struct {
	repository   string
	digest       digest.Digest
	artifactType string
}

// New returns a service.
func New(o Options) *Service {
	return &Service{Options: o, calls: coalesce.New[key, result]()}
}

// Close ends all work.
func (s *Service) Close() { s.calls.Close() }

// Forget keeps later requests from waiting for work under way, which may be stuck on the volume.
func (s *Service) Forget() { s.calls.Forget() }

// list is an index of referrers. Its descriptors are passed on as the upstream sent them.
type list struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []json.RawMessage `json:"manifests"`
}

// Get returns the list of what refers to a manifest, or the part of it that has an artifact type. Clients that ask for
// the same part at the same time share it.
func (s *Service) Get(ctx context.Context, repository string, d digest.Digest, artifactType string) ([]byte, error) {
	k := key{repository, d, ""}
	if artifactType == "" {
		r, err := s.complete(ctx, k)
		r.note(ctx)
		return r.document, err
	}
	call, joined := s.calls.Start(key{repository, d, artifactType}, func(ctx context.Context) (result, error) {
		r, err := s.complete(ctx, k)
		if err != nil {
			return result{}, err
		}
		err = s.Parsing.Do(ctx, func() error {
			r.document = filter(r.document, artifactType)
			return nil
		})
		return r, err
	})
	s.Metrics.Joined(metrics.Manifest, joined)
	r, err := call.Wait(ctx)
	r.joined = r.joined || joined
	r.note(ctx)
	return r.document, err
}

// result is a list, and how it was found.
type result struct {
	document []byte
	joined   bool
	// stale is why the upstream was not waited for, empty if the list is the upstream's.
	stale string
}

// note records how a request is served.
func (r result) note(ctx context.Context) {
	if r.stale != "" {
		response.From(ctx).Note(event.Stale, event.Unvalidated(r.stale))
		return
	}
	response.From(ctx).Note(event.Fetched(r.joined), event.CauseList)
}

// complete returns the complete list.
func (s *Service) complete(ctx context.Context, k key) (result, error) {
	stored, ok := s.Content.Referrers(k.repository, k.digest)
	if ok && s.Source.Down(func() { s.start(k) }) {
		return result{document: stored, stale: event.Down}, nil
	}
	call, joined := s.start(k)
	s.Metrics.Joined(metrics.Manifest, joined)
	var r result
	var err error
	if ok {
		r, err = call.WaitUntil(ctx, call.Begun.Add(s.Source.ValidationTimeout()))
	} else {
		r, err = call.Wait(ctx)
	}
	switch {
	case !ok, err == nil, ctx.Err() != nil, remote.Is(err, remote.NotFound):
		r.joined = joined
		return r, err
	case errors.Is(err, context.DeadlineExceeded):
		return result{document: stored, stale: event.Slow}, nil
	}
	return result{document: stored, stale: metrics.Reason(err)}, nil
}

func (s *Service) start(k key) (*coalesce.Call[result], bool) {
	return s.calls.Start(k, func(ctx context.Context) (result, error) {
		document, err := s.fetch(ctx, k)
		return result{document: document}, err
	})
}

// fetch puts the upstream's pages together, and stores the list for as long as the manifest.
func (s *Service) fetch(ctx context.Context, k key) ([]byte, error) {
	all := list{SchemaVersion: 2, MediaType: v1.MediaTypeImageIndex, Manifests: []json.RawMessage{}}
	size, pages := 0, 0
	err := s.Source.EachPage(ctx, k.repository, "referrers/"+k.digest.String(), nil, func(page remote.Document) error {
		part, err := parse(page.Content)
		pages++
		size += len(page.Content)
		switch {
		case errors.Is(err, errTooLong), err == nil && size > maxBytes:
			return s.Source.Invalid(errTooLong.Error())
		case err != nil && pages > 1:
			return s.Source.Invalid("a page of its list of referrers is not a list")
		case err != nil:
			return err
		}
		all.Manifests = append(all.Manifests, part.Manifests...)
		return nil
	})
	if pages == 0 && refuses(err) {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err != nil {
		return nil, err
	}
	var document []byte
	err = s.Parsing.Do(ctx, func() (err error) {
		document, err = json.Marshal(all)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(document) <= maxStoredBytes {
		s.Content.SetReferrers(k.repository, k.digest, document)
	}
	return document, nil
}

// refuses reports whether an error means that there is no such list. A lack of permission or of time does not mean that.
func refuses(err error) bool {
	switch status := remote.StatusOf(err); status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return status >= 400 && status < 500 || status == http.StatusNotImplemented
	}
}

var errTooLong = errors.New("its list of referrers is too long")

// parse parses a page. Other documents, such as the login page of a portal, must not be passed on as a list.
func parse(document []byte) (list, error) {
	var l list
	if manifest.CheckBounds(document) != nil {
		return list{}, errTooLong
	}
	err := json.Unmarshal(document, &l)
	if err != nil || l.SchemaVersion != 2 || l.Manifests == nil || l.MediaType != "" && l.MediaType != v1.MediaTypeImageIndex {
		return list{}, ErrUnsupported
	}
	return l, nil
}

// filter returns the part of a list that has an artifact type.
func filter(document []byte, artifactType string) []byte {
	var l list
	if err := json.Unmarshal(document, &l); err != nil {
		return document // It was marshalled here.
	}
	wanted := l.Manifests[:0]
	for _, manifest := range l.Manifests {
		var descriptor v1.Descriptor
		if json.Unmarshal(manifest, &descriptor) == nil && descriptor.ArtifactType == artifactType {
			wanted = append(wanted, manifest)
		}
	}
	l.Manifests = wanted
	if filtered, err := json.Marshal(l); err == nil {
		return filtered
	}
	return document
}
