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
	// moved is set if that manifest still has to be made available; since is when the upstream first said so.
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

// follow makes the manifest available that a tag has moved to, and returns its digest. The digest in the header of some
// upstreams is not that of what they send. What they send by tag is where the tag leads.
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

// move is the latest answer of the upstream for a tag, while any resolution of the tag is not ready. Following one answer
// can take longer than following the next one, which must not be undone then.
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

// set moves the tag, if that is still where the upstream says that it leads.
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
		s.remembered.Remove(k) // It may be there because it could not be stored once.
	}
}
