// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// tagService resolves the tags of a repository.
type tagService struct {
	engine     *Engine
	repository string
}

// Get implements distribution.TagService.
func (s *tagService) Get(ctx context.Context, tag string) (v1.Descriptor, error) {
	d, err := s.engine.resolve(ctx, s.repository, tag)
	if err != nil {
		return v1.Descriptor{}, clientError(ctx, err, distribution.ErrTagUnknown{Tag: tag})
	}
	return v1.Descriptor{Digest: d}, nil
}

// resolve returns the manifest that a tag leads to: as the upstream says, if it says so in time, else as it last said.
func (e *Engine) resolve(ctx context.Context, repository, tag string) (digest.Digest, error) {
	if d, ok := e.fresh.get(repository, tag, e.now()); ok {
		return d, nil
	}
	cached, ok := e.cachedTag(repository, tag)
	if ok && e.options.Freshness > 0 {
		if at := e.index.Validated(repository, tag, cached); e.now().Sub(at) < e.options.Freshness {
			e.fresh.put(repository, tag, cached, at)
			return cached, nil
		}
	}
	validate := func() (*coalesce.Call[digest.Digest], bool) {
		return e.resolves.Start(repository+":"+tag, func(ctx context.Context) (digest.Digest, error) {
			return e.validate(ctx, repository, tag)
		})
	}
	if ok && e.down(func() { validate() }) {
		e.stale(repository, tag, cached, "down")
		return cached, nil
	}
	call, joined := validate()
	if joined {
		e.metrics.Coalesced.WithLabelValues(metrics.Manifest).Inc()
	}
	if !ok {
		if r := requestOf(ctx); r != nil && !joined {
			r.fetched = true
		}
		return call.Wait(ctx)
	}
	d, err := call.WaitUntil(ctx, call.Begun.Add(e.patience()))
	moved := err == nil && d != cached
	if moved {
		// The upstream answers, so a cached image is no excuse for not having the new one.
		follow := e.follow(repository, tag, d)
		d, err = follow.WaitUntil(ctx, follow.Begun.Add(movePatience))
		if r := requestOf(ctx); r != nil {
			r.fetched = err == nil
		}
	}
	switch {
	case err == nil:
		return d, nil
	case remote.Is(err, remote.NotFound) && !moved:
		return "", err // The upstream has removed the tag, and should be believed.
	case ctx.Err() != nil:
		return "", err
	case errors.Is(err, context.DeadlineExceeded):
		e.stale(repository, tag, cached, slowUpstream)
	default:
		e.stale(repository, tag, cached, reason(err))
	}
	return cached, nil
}

// slowUpstream is why a tag is served without the upstream's word when that has not come in time.
const slowUpstream = "slow"

// stale notes that a tag is served without the upstream's word on it. If it has moved, the log says so later (see setTag),
// and with these lines which pulls got the old image.
func (e *Engine) stale(repository, tag string, d digest.Digest, reason string) {
	e.metrics.StaleTags.WithLabelValues(reason).Inc()
	if reason == slowUpstream && e.options.ValidationTimeout == 0 {
		return // That is how it should be.
	}
	e.log.WithFields(logrus.Fields{"repository": repository, "tag": tag, "digest": d, "reason": reason}).
		Warn("Served a tag from the cache, unvalidated")
}

// movePatience is how long a client that could be served from the cache waits for the manifest that a tag has moved to.
const movePatience = 10 * time.Second

// follow has the manifest ready that a tag has moved to, and moves the tag then, unless it has moved on since. Some
// upstreams tell a digest that is not that of what they send: what they send by tag is where the tag leads.
func (e *Engine) follow(repository, tag string, d digest.Digest) *coalesce.Call[digest.Digest] {
	call, _ := e.moves.Start(repository+":"+tag+"@"+d.String(), func(ctx context.Context) (digest.Digest, error) {
		_, err := e.manifest(ctx, repository, d)
		if remote.Is(err, remote.NotFound) || remote.Is(err, remote.Invalid) {
			var m storedManifest
			if m, err = e.fetchManifest(ctx, repository, tag); err == nil && m.digest != d {
				e.answers.replace(repository, tag, d, m.digest)
				d = m.digest
			}
		}
		if err != nil {
			return "", err
		}
		e.setTag(repository, tag, d)
		return d, nil
	})
	return call
}

// cachedTag returns where a tag led when the upstream last answered, if that can still be served.
func (e *Engine) cachedTag(repository, tag string) (digest.Digest, bool) {
	d, err := e.store.Tag(repository, tag)
	if err != nil {
		ok := false
		if d, ok = e.fresh.last(repository, tag); !ok {
			return "", false
		}
	}
	if _, ok := e.recent.get(repository, d); ok {
		return d, true
	}
	_, err = e.store.StatBlob(d)
	return d, err == nil
}

// validate asks the upstream where a tag leads. It goes on when all who asked for it have gone. A tag that has moved is
// followed from then on.
func (e *Engine) validate(ctx context.Context, repository, tag string) (digest.Digest, error) {
	cached, ok := e.cachedTag(repository, tag)
	d := digest.Digest("")
	if ok {
		var err error
		if d, err = e.upstream.Resolve(ctx, repository, tag); err != nil {
			return "", err
		}
	}
	moved := false
	switch {
	case d == "":
		// Asking for the manifest at once saves a request, and tells the digest in any case.
		m, err := e.fetchManifest(ctx, repository, tag)
		if err != nil {
			return "", err
		}
		d = m.digest
	case d != cached:
		moved = true
	case !e.store.HasManifest(repository, d):
		// It is in memory only, since there was no space for it. There may be some now.
		if m, ok := e.recent.get(repository, d); ok {
			if info, err := e.parse(ctx, m.content, m.mediaType); err == nil {
				e.tryStore(repository, m, info)
			}
		}
	}
	e.answers.put(repository, tag, d)
	if moved {
		e.follow(repository, tag, d)
	} else {
		e.setTag(repository, tag, d)
	}
	return d, nil
}

// setTag notes where a tag leads, if that is the upstream's last answer and not noted yet.
func (e *Engine) setTag(repository, tag string, d digest.Digest) {
	defer e.answers.locks.Lock(repository + ":" + tag)()
	if !e.answers.take(repository, tag, d) {
		return
	}
	if before, ok := e.cachedTag(repository, tag); ok && before != d {
		e.log.WithFields(logrus.Fields{"repository": repository, "tag": tag, "digest": d, "before": before}).Info("A tag has moved")
	}
	err := e.store.SetTag(repository, tag, d)
	if err != nil && !store.IsFull(err) {
		e.log.WithError(err).WithField("repository", repository).Warn("Could not store a tag")
	}
	if err != nil || e.options.Freshness > 0 {
		e.fresh.put(repository, tag, d, e.now())
	} else {
		e.fresh.drop(repository, tag) // It could not be stored once.
	}
	if e.options.Freshness > 0 {
		if err := e.index.SetValidated(repository, tag, d); err != nil {
			e.log.WithError(err).Warn("Could not record the validation of a tag")
		}
	}
}

// maxFresh bounds how many tags are known to be fresh.
const maxFresh = 4096

// freshTags are the tags that were validated lately, so that answering again within the window costs no I/O, and those
// that could not be stored.
type freshTags struct {
	window time.Duration
	mu     sync.Mutex
	tags   map[[2]string]freshTag
}

type freshTag struct {
	digest digest.Digest
	at     time.Time
}

func (f *freshTags) get(repository, tag string, now time.Time) (digest.Digest, bool) {
	if f.window == 0 {
		return "", false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tags[[2]string{repository, tag}]
	return t.digest, ok && now.Sub(t.at) < f.window
}

// last returns where a tag led when it was put, however long ago.
func (f *freshTags) last(repository, tag string) (digest.Digest, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tags[[2]string{repository, tag}]
	return t.digest, ok
}

func (f *freshTags) drop(repository, tag string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tags, [2]string{repository, tag})
}

func (f *freshTags) put(repository, tag string, d digest.Digest, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tags) >= maxFresh {
		clear(f.tags)
	}
	f.tags[[2]string{repository, tag}] = freshTag{digest: d, at: at}
}

// Untag implements distribution.TagService. Who pulls must not decide what others get while the upstream is down.
func (s *tagService) Untag(context.Context, string) error {
	return distribution.ErrUnsupported
}

// Tag implements distribution.TagService.
func (s *tagService) Tag(context.Context, string, v1.Descriptor) error {
	return distribution.ErrUnsupported
}

// Lookup implements distribution.TagService.
func (s *tagService) Lookup(context.Context, v1.Descriptor) ([]string, error) {
	return nil, distribution.ErrUnsupported
}
