// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package manifests serves manifests: from memory, from the store, or from the upstream.
package manifests

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/lru"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/source"
	"github.com/larder-project/larder/pkg/limit"
)

// maxDeclaring bounds the images that are read for the size of a blob.
const maxDeclaring = 16

// recentBytes is how much memory recent manifests take.
const recentBytes = 2 << 20

// Options are what a Service depends on.
type Options struct {
	Content *content.Content
	Source  *source.Source
	// Parsing bounds the manifests that are read and parsed at a time.
	Parsing limit.Limit
	// Apart reports whether the manifest of a request must not become part of its repository, since other clients may not
	// be allowed to read it. If it is nil, all clients may read the same.
	Apart   func(context.Context) bool
	Metrics *metrics.Metrics
	Log     logrus.FieldLogger
}

// Service serves the manifests of all repositories.
type Service struct {
	Options
	calls *coalesce.Group[key, loaded]
	// recent saves reading and hashing for the many requests for the same few manifests. It also serves manifests that
	// cannot be stored. A key is proof that the repository has the manifest, though perhaps not for all clients.
	recent *lru.Cache[key, loaded]
}

type key struct {
	repository string
	digest     digest.Digest
}

// New returns a service.
func New(o Options) *Service {
	return &Service{
		Options: o,
		calls:   coalesce.New[key, loaded](),
		recent:  lru.New(recentBytes, recentBytes/2, func(_ key, l loaded) int { return len(l.Content) }),
	}
}

// Close ends all work.
func (s *Service) Close() { s.calls.Close() }

// Forget keeps later requests from waiting for work under way, which may be stuck on the volume.
func (s *Service) Forget() { s.calls.Forget() }

// Recent returns a manifest of a repository if it is in memory.
func (s *Service) Recent(repository string, d digest.Digest) (content.Manifest, bool) {
	l, ok := s.recent.Get(key{repository, d})
	return l.Manifest, ok
}

// Available reports whether the content of a manifest is in memory or on disk. It does not check that the repository
// links it.
func (s *Service) Available(repository string, d digest.Digest) bool {
	if _, ok := s.Recent(repository, d); ok {
		return true
	}
	_, err := s.Content.Size(d)
	return err == nil
}

// Get returns a manifest of a repository.
func (s *Service) Get(ctx context.Context, repository string, d digest.Digest) (content.Manifest, error) {
	l, err := s.get(ctx, repository, d, s.apart(ctx))
	return l.Manifest, err
}

func (s *Service) apart(ctx context.Context) bool { return s.Apart != nil && s.Apart(ctx) }

func (s *Service) get(ctx context.Context, repository string, d digest.Digest, apart bool) (loaded, error) {
	if l, ok := s.recent.Get(key{repository, d}); ok {
		return l, nil
	}
	stored, cause := s.Content.HasManifest(repository, d), ""
	if !stored && s.Available(repository, d) {
		cause = event.CauseUnproven
	}
	call, joined := s.calls.Start(key{repository, d}, func(ctx context.Context) (loaded, error) {
		return s.load(ctx, repository, d, stored, apart)
	})
	s.Metrics.Joined(metrics.Manifest, joined)
	l, err := call.Wait(ctx)
	if l.fetched {
		response.From(ctx).Note(event.Fetched(joined), cause)
	}
	return l, err
}

// loaded is a manifest in memory.
type loaded struct {
	content.Manifest
	// fetched means that it was just fetched.
	fetched bool
	// unstored is why it is only in memory, nil if it is stored.
	unstored error
}

func (s *Service) load(ctx context.Context, repository string, d digest.Digest, stored, apart bool) (loaded, error) {
	if l, ok := s.recent.Get(key{repository, d}); ok {
		return l, nil // Another call has fetched it since.
	}
	if stored {
		m, err := s.read(ctx, repository, d)
		if err == nil {
			return loaded{Manifest: m}, nil
		}
		if !errors.Is(err, content.ErrNotFound) && !errors.Is(err, content.ErrMismatch) && ctx.Err() == nil {
			s.Log.WithError(err).WithFields(logrus.Fields{"repository": repository, "digest": d}).Warn("Failed to read a manifest; fetching it")
		}
	}
	l, err := s.fetch(ctx, repository, d.String(), apart)
	l.fetched = err == nil
	return l, err
}

// read returns a manifest from the store.
func (s *Service) read(ctx context.Context, repository string, d digest.Digest) (m content.Manifest, err error) {
	err = s.Parsing.Do(ctx, func() error {
		m, err = s.Content.Manifest(repository, d)
		return err
	})
	if err == nil {
		s.recent.Add(key{repository, d}, loaded{Manifest: m})
	}
	return m, err
}

// Fetch fetches a manifest by tag and stores it as part of the repository. If it cannot be stored, it is served all the
// same.
func (s *Service) Fetch(ctx context.Context, repository, tag string) (content.Manifest, error) {
	l, err := s.fetch(ctx, repository, tag, false)
	return l.Manifest, err
}

func (s *Service) fetch(ctx context.Context, repository, reference string, apart bool) (loaded, error) {
	begun := time.Now()
	fetched, err := s.Source.FetchManifest(ctx, repository, reference)
	if err != nil {
		s.Metrics.FetchFailed(ctx, err)
		return loaded{}, err
	}
	s.Metrics.Repositories.Fetched(repository, int64(len(fetched.Content)), time.Since(begun))
	s.Metrics.Misses.WithLabelValues(metrics.Manifest).Inc()
	s.Metrics.PulledBytes.WithLabelValues(metrics.Manifest).Add(float64(len(fetched.Content)))
	info, err := s.parse(ctx, fetched.Content, fetched.MediaType)
	switch {
	case err != nil && ctx.Err() != nil:
		return loaded{}, err
	case err != nil:
		return loaded{}, s.Source.Invalid(err.Error())
	}
	m := content.Manifest{
		Digest: fetched.Digest, MediaType: info.MediaType, Content: fetched.Content,
		Proof: info.Explicit && fetched.MediaType == info.MediaType, Apart: apart,
	}
	l := loaded{Manifest: m}
	s.recent.Add(key{repository, m.Digest}, l) // Others need not wait until it is stored.
	if l.unstored = s.store(repository, m, info); l.unstored != nil {
		s.recent.Add(key{repository, m.Digest}, l)
		s.Metrics.NotStored(l.unstored)
	}
	return l, nil
}

// StoreRecent stores a manifest that is only in memory because it could not be stored when it was fetched.
func (s *Service) StoreRecent(ctx context.Context, repository string, d digest.Digest) {
	m, ok := s.Recent(repository, d)
	if !ok || s.Content.HasManifest(repository, d) {
		return
	}
	if info, err := s.parse(ctx, m.Content, m.MediaType); err == nil {
		s.recent.Add(key{repository, d}, loaded{Manifest: m, unstored: s.store(repository, m, info)})
	}
}

func (s *Service) store(repository string, m content.Manifest, info manifest.Info) error {
	err := s.Content.StoreManifest(repository, m, info)
	if err != nil && !content.IsFull(err) {
		s.Log.WithError(err).WithFields(logrus.Fields{"repository": repository, "digest": m.Digest}).Warn("Failed to store a manifest")
	}
	return err
}

// parse parses a manifest. That takes a multiple of the manifest's size in memory.
func (s *Service) parse(ctx context.Context, document []byte, sentAs string) (info manifest.Info, err error) {
	err = s.Parsing.Do(ctx, func() error {
		info, err = manifest.Parse(document, sentAs)
		return err
	})
	return info, err
}

// DeclaredSizes visits the sizes that the images of a repository declare for a blob. They should all be the same.
func (s *Service) DeclaredSizes(ctx context.Context, repository string, d digest.Digest) iter.Seq[int64] {
	return func(visit func(int64) bool) {
		images := 0
		for image := range s.Content.ImagesWith(repository, d) {
			if images++; images > maxDeclaring {
				return
			}
			m, err := s.get(ctx, repository, image, true) // The client asks for the blob only.
			if err != nil {
				continue
			}
			info, err := s.parse(ctx, m.Content, m.MediaType)
			if err != nil {
				continue
			}
			for _, child := range info.Children {
				if child.Digest == d && child.Size > 0 && !visit(child.Size) {
					return
				}
			}
		}
	}
}
