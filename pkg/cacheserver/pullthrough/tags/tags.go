// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package tags resolves tags and lists them.
//
// A tag resolves to the digest that the upstream returns. If the upstream does not respond in time, it resolves to the
// last known digest. All requests for a tag share one resolution. It is answered when the upstream has returned the
// digest, and ready when that manifest can be served. Only then does the cache's own tag move.
package tags

import (
	"context"
	"errors"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifests"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/source"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/limit"
)

const (
	// moveTimeout is how long a client that could be served from the cache waits for the manifest that a tag has moved
	// to.
	moveTimeout = 10 * time.Second
	// maxRecent bounds the tags in memory.
	maxRecent = 4096
)

// Options are what a Service depends on.
type Options struct {
	Content   *content.Content
	Source    *source.Source
	Manifests *manifests.Service
	// Freshness is how long a tag is served without asking the upstream again; 0 asks each time.
	Freshness time.Duration
	// Parsing bounds the lists that are parsed at a time.
	Parsing limit.Limit
	Metrics *metrics.Metrics
	Log     logrus.FieldLogger
	Now     func() time.Time
}

// Service resolves and lists the tags of all repositories.
type Service struct {
	Options
	resolutions *coalesce.Group[key, resolution]
	follows     *coalesce.Group[answer, digest.Digest]
	lists       *lists

	// recent are tags that were validated lately, so that serving them again within Freshness costs no I/O, and tags
	// that could not be stored.
	recent *lru.Cache[key, validation]

	mu     sync.Mutex
	latest map[key]*latestAnswer
}

type key struct{ repository, tag string }

// validation is where a tag led when the upstream was last asked.
type validation struct {
	digest digest.Digest
	at     time.Time
}

// New returns a service.
func New(o Options) *Service {
	recent, _ := lru.New[key, validation](maxRecent) // It fails for sizes below 1 only.
	return &Service{
		Options:     o,
		resolutions: coalesce.New[key, resolution](),
		follows:     coalesce.New[answer, digest.Digest](),
		lists:       newLists(o),
		recent:      recent,
		latest:      map[key]*latestAnswer{},
	}
}

// Close ends all work.
func (s *Service) Close() {
	s.follows.Close()
	s.resolutions.Close()
	s.lists.close()
}

// Forget keeps later requests from waiting for work under way, which may be stuck on the volume.
func (s *Service) Forget() {
	s.follows.Forget()
	s.resolutions.Forget()
}

// Fresh returns where a tag leads if that was validated within Freshness and is in memory.
func (s *Service) Fresh(repository, tag string) (digest.Digest, bool) {
	if s.Freshness == 0 {
		return "", false
	}
	v, ok := s.recent.Get(key{repository, tag})
	return v.digest, ok && s.isFresh(v.at)
}

// isFresh reports whether a tag that was validated at a time is fresh.
func (s *Service) isFresh(at time.Time) bool { return status.IsRecent(at, s.Now(), s.Freshness) }

// Resolve returns the digest of the manifest that a tag leads to.
func (s *Service) Resolve(ctx context.Context, repository, tag string) (digest.Digest, error) {
	if d, ok := s.Fresh(repository, tag); ok {
		return d, nil
	}
	k := key{repository, tag}
	cached, ok := s.cached(k)
	switch {
	case !ok:
		return s.resolveUncached(ctx, k)
	case s.stillFresh(k, cached):
		return cached, nil
	case s.Source.Down(func() { s.start(k) }):
		s.serveStale(ctx, event.Down)
		return cached, nil
	}
	return s.validate(ctx, k, cached)
}

// resolveUncached resolves a tag for which the cache has nothing to serve.
func (s *Service) resolveUncached(ctx context.Context, k key) (digest.Digest, error) {
	call, joined := s.start(k)
	s.Metrics.Joined(metrics.Manifest, joined)
	response.From(ctx).Note(event.Fetched(joined), "")
	r, err := call.Wait(ctx)
	if err == nil {
		response.From(ctx).NoteDigest(r.digest)
	}
	return r.digest, err
}

// stillFresh reports whether a cached tag was validated within Freshness, by an earlier process perhaps.
func (s *Service) stillFresh(k key, cached digest.Digest) bool {
	if s.Freshness == 0 {
		return false
	}
	at := s.Content.TagValidated(k.repository, k.tag, cached)
	if !s.isFresh(at) {
		return false
	}
	s.recent.Add(k, validation{cached, at})
	return true
}

// validate asks the upstream for the digest of a cached tag. If it does not respond in time, or the new manifest is not
// available in time, the tag is stale.
func (s *Service) validate(ctx context.Context, k key, cached digest.Digest) (digest.Digest, error) {
	call, joined := s.start(k)
	s.Metrics.Joined(metrics.Manifest, joined)
	r, err := call.WaitEarlyUntil(ctx, call.Begun.Add(s.Source.ValidationTimeout()))
	moved := err == nil && r.moved
	if moved {
		// The upstream is up and the tag has moved: wait for the new image, but not without end.
		r, err = call.WaitUntil(ctx, r.since.Add(moveTimeout))
	}
	switch {
	case err == nil:
		if r.digest != cached {
			response.From(ctx).Note(event.Fetched(joined), event.CauseMoved)
		}
		return r.digest, nil
	case remote.Is(err, remote.NotFound) && !moved:
		// The tag is kept for outages nevertheless: upstreams respond like this, too, if the credential lacks a permission.
		return "", err
	case ctx.Err() != nil:
		return "", err
	case errors.Is(err, context.DeadlineExceeded):
		s.serveStale(ctx, event.Slow)
	default:
		s.serveStale(ctx, metrics.Reason(err))
	}
	return cached, nil
}

// cached returns where a tag led when the upstream last answered, if that manifest can still be served.
func (s *Service) cached(k key) (digest.Digest, bool) {
	d, ok := s.Content.Tag(k.repository, k.tag)
	if !ok {
		v, ok := s.recent.Get(k)
		if !ok {
			return "", false
		}
		d = v.digest
	}
	return d, s.Manifests.Available(k.repository, d)
}

// serveStale records that a tag is served unvalidated. If the tag turns out to have moved, set logs that later, and the
// event of this request shows that its client may have got the old image.
func (s *Service) serveStale(ctx context.Context, reason string) {
	s.Metrics.StaleTags.WithLabelValues(reason).Inc()
	if reason == event.Slow && !s.Source.Validates() {
		return // That is what the configuration asks for, so it counts as a hit.
	}
	response.From(ctx).Note(event.Stale, event.Unvalidated(reason))
}
