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

// resolution is where the upstream says that a tag leads.
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

// resolve asks the upstream where a tag leads, makes the manifest available and moves the tag.
func (s *Service) resolve(ctx context.Context, k key, answered func(resolution)) (resolution, error) {
	r, err := s.ask(ctx, k)
	if err != nil {
		return resolution{}, err
	}
	m := s.join(k, r.digest)
	defer s.leave(k, m)
	if r.moved {
		r.since = m.begun()
		answered(r)
		if r.digest, err = s.follow(ctx, k, m, r.digest); err != nil {
			return resolution{}, err
		}
	}
	s.set(k, m, r.digest)
	return r, nil
}

// ask returns where the upstream says that a tag leads.
func (s *Service) ask(ctx context.Context, k key) (resolution, error) {
	cached, ok := s.cached(k)
	if ok {
		d, err := s.Source.Resolve(ctx, k.repository, k.tag)
		switch {
		case err != nil:
			return resolution{}, err
		case d == cached:
			s.Manifests.Store(ctx, k.repository, d) // There may be room for it now.
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
func (s *Service) follow(ctx context.Context, k key, m *move, d digest.Digest) (digest.Digest, error) {
	_, err := s.Manifests.Get(ctx, k.repository, d)
	if !remote.Is(err, remote.NotFound) && !remote.Is(err, remote.Invalid) {
		return d, err
	}
	sent, err := s.Manifests.Fetch(ctx, k.repository, k.tag)
	if err == nil {
		m.correct(d, sent.Digest)
	}
	return sent.Digest, err
}

// latestAnswer is what the upstream last returned for a tag that is being resolved. A slow resolution must not
// overwrite the result of a later one.
type move struct {
	mu     sync.Mutex
	latest digest.Digest
	since  time.Time

	resolutions int // guarded by the service's mu
}

// join notes an answer as the latest one of its tag.
func (s *Service) join(k key, d digest.Digest) *move {
	m := s.enter(k)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.latest != d {
		m.latest, m.since = d, time.Now()
	}
	return m
}

func (s *Service) enter(k key) *move {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.moves[k]
	if !ok {
		m = &move{}
		s.moves[k] = m
	}
	m.resolutions++
	return m
}

func (s *Service) leave(k key, m *move) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.resolutions--; m.resolutions == 0 {
		delete(s.moves, k)
	}
}

// begun returns when the upstream first gave the latest answer.
func (m *move) begun() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.since
}

// correct replaces an answer, if it is still the latest one.
func (m *move) correct(from, to digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.latest == from {
		m.latest = to
	}
}

// set stores the digest of a tag, unless the upstream has returned another one since.
func (s *Service) set(k key, m *move, d digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.latest != d {
		return
	}
	if before, ok := s.cached(k); ok && before != d {
		s.Log.WithFields(logrus.Fields{"repository": k.repository, "tag": k.tag, "digest": d, "before": before}).Info("Tag moved")
	}
	stored := s.Content.SetTag(k.repository, k.tag, d, s.Freshness > 0)
	if !stored || s.Freshness > 0 {
		s.remembered.Add(k, validation{d, s.Now()})
	} else {
		s.remembered.Remove(k) // An earlier attempt to store the tag may have failed.
	}
}
