// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package tags

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// resolution is the digest that the upstream returns for a tag.
type resolution struct {
	digest digest.Digest
	// moved is set if the manifest is not available yet; since is when the upstream first returned its digest.
	moved bool
	since time.Time
}

// start begins to resolve a tag, or joins a resolution that is not answered yet. Later requests ask the upstream again.
func (s *Service) start(k key) (*coalesce.Call[resolution], bool) {
	return s.resolutions.StartStaged(k, func(ctx context.Context, answered func(resolution)) (resolution, error) {
		return s.resolve(ctx, k, answered)
	})
}

// resolve asks the upstream for the digest of a tag, makes the manifest available and moves the tag.
func (s *Service) resolve(ctx context.Context, k key, answered func(resolution)) (resolution, error) {
	r, err := s.ask(ctx, k)
	if err != nil {
		return resolution{}, err
	}
	latest := s.begin(k)
	defer s.end(k, latest)
	r.since = latest.note(r.digest)
	if !r.moved {
		s.set(k, latest, r.digest, r.digest)
		return r, nil
	}
	answered(r)
	call, _ := s.follows.Start(answer{k, r.digest}, func(ctx context.Context) (digest.Digest, error) {
		d, err := s.follow(ctx, k, r.digest)
		if err == nil {
			s.set(k, latest, r.digest, d)
		}
		return d, err
	})
	r.digest, err = call.Wait(ctx)
	return r, err
}

// ask asks the upstream for the digest of a tag.
func (s *Service) ask(ctx context.Context, k key) (resolution, error) {
	cached, ok := s.cached(k)
	if ok {
		d, err := s.Source.Resolve(ctx, k.repository, k.tag)
		switch {
		case err != nil:
			return resolution{}, err
		case d == cached:
			s.Manifests.StoreRecent(ctx, k.repository, d) // There may be room for it now.
			return resolution{digest: d}, nil
		case d != "":
			return resolution{digest: d, moved: true}, nil
		}
	}
	// Fetching the manifest at once spares a request, and yields the digest in any case.
	m, err := s.Manifests.Fetch(ctx, k.repository, k.tag)
	return resolution{digest: m.Digest}, err
}

// follow makes the manifest that a tag has moved to available, and returns its digest. Some upstreams send a wrong
// digest in the header; then the manifest that they send for the tag decides.
func (s *Service) follow(ctx context.Context, k key, d digest.Digest) (digest.Digest, error) {
	_, err := s.Manifests.Get(ctx, k.repository, d)
	if !remote.Is(err, remote.NotFound) && !remote.Is(err, remote.Invalid) {
		return d, err
	}
	m, err := s.Manifests.Fetch(ctx, k.repository, k.tag)
	return m.Digest, err
}

// answer is a digest that the upstream returned for a tag.
type answer struct {
	key
	digest digest.Digest
}

// latestAnswer is what the upstream last returned for a tag that is being resolved. A slow resolution must not
// overwrite the result of a later one.
type latestAnswer struct {
	mu     sync.Mutex
	digest digest.Digest
	since  time.Time

	resolutions int // guarded by the service's mu
}

// begin returns the latest answer for a tag, until end.
func (s *Service) begin(k key) *latestAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	latest, ok := s.latest[k]
	if !ok {
		latest = &latestAnswer{}
		s.latest[k] = latest
	}
	latest.resolutions++
	return latest
}

func (s *Service) end(k key, latest *latestAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if latest.resolutions--; latest.resolutions == 0 {
		delete(s.latest, k)
	}
}

// note records an answer, and returns when the upstream first gave it.
func (a *latestAnswer) note(d digest.Digest) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.digest != d {
		a.digest, a.since = d, time.Now()
	}
	return a.since
}

// set stores the digest that an answer leads to, unless the upstream has given another answer since.
func (s *Service) set(k key, latest *latestAnswer, answered, d digest.Digest) {
	latest.mu.Lock()
	defer latest.mu.Unlock()
	if latest.digest != answered {
		return
	}
	if before, ok := s.cached(k); ok && before != d {
		s.Log.WithFields(logrus.Fields{"repository": k.repository, "reference": k.tag, "digest": d, "before": before}).Info("Tag moved")
	}
	stored := s.Content.SetTag(k.repository, k.tag, d, s.Freshness > 0)
	if !stored || s.Freshness > 0 {
		s.recent.Add(k, validation{d, s.Now()})
	} else {
		s.recent.Remove(k) // An earlier attempt to store the tag may have failed.
	}
}
