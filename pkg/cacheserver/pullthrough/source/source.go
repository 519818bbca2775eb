// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package source is the upstream as the services of the engine see it: It limits concurrent requests, tracks how fast
// the upstream responds, and iterates over paginated lists.
package source

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/limit"
)

// maxRequests is how many requests for small responses are made at a time: enough for a herd of nodes that want different
// images, and few enough that clients that disconnect early cannot make the cache flood the upstream.
const maxRequests = 64

// Options are the settings of a Source.
type Options struct {
	Registry remote.Registry
	// Host names the upstream in errors.
	Host string
	// MaxWait is how long a request waits for its slot. Its client then pulls from the upstream.
	MaxWait time.Duration
	// ValidationTimeout and SuspectTimeout are those of the engine.
	ValidationTimeout, SuspectTimeout time.Duration
	// Parsing bounds the documents that are parsed at a time.
	Parsing limit.Limit
}

// Source is an upstream. Requests for small responses wait for a slot, as long as their clients do; blobs are bounded by
// their service.
type Source struct {
	remote.Registry
	options Options
	slots   limit.Limit
	lists   limit.Limit
	latency latency
}

// New returns a source.
func New(o Options) *Source {
	return &Source{Registry: o.Registry, options: o, slots: limit.New(maxRequests), lists: limit.New(maxLists)}
}

// acquire waits for a slot of a request.
func (s *Source) acquire(ctx context.Context) (release func(), err error) {
	return s.acquireOf(ctx, s.slots)
}

func (s *Source) acquireOf(ctx context.Context, slots limit.Limit) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.options.MaxWait, limit.ErrBusy)
	defer cancel()
	return slots.Acquire(ctx)
}

// Resolve implements remote.Registry.
func (s *Source) Resolve(ctx context.Context, repository, tag string) (digest.Digest, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	begun := time.Now()
	d, err := s.Registry.Resolve(ctx, repository, tag)
	s.latency.record(time.Since(begun), err)
	return d, err
}

// FetchManifest implements remote.Registry.
func (s *Source) FetchManifest(ctx context.Context, repository, reference string) (remote.Manifest, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return remote.Manifest{}, err
	}
	defer release()
	begun := time.Now()
	m, err := s.Registry.FetchManifest(ctx, repository, reference)
	s.latency.record(time.Since(begun), err)
	return m, err
}

// StatBlob implements remote.Registry.
func (s *Source) StatBlob(ctx context.Context, repository string, d digest.Digest) (int64, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	return s.Registry.StatBlob(ctx, repository, d)
}

// List implements remote.Registry.
func (s *Source) List(ctx context.Context, repository, path string, query url.Values) (remote.Document, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return remote.Document{}, err
	}
	defer release()
	return s.Registry.List(ctx, repository, path, query)
}

// Close closes the registry.
func (s *Source) Close() {
	if closer, ok := s.Registry.(interface{ Close() }); ok {
		closer.Close()
	}
}

// Invalid is the error of a response that breaks the protocol or a limit.
func (s *Source) Invalid(cause string) error {
	return &remote.Error{Reason: remote.Invalid, Host: s.options.Host, Cause: cause}
}

// BrokeOff is the error of a response whose body ended early.
func (s *Source) BrokeOff() error {
	return &remote.Error{
		Reason: remote.Unavailable, Status: http.StatusOK, Host: s.options.Host, Cause: "broke off its response",
	}
}

// Down reports whether a client that could be served from the cache should not wait for the upstream. While the
// upstream is down, it occasionally calls probe, which must start a request in the background.
func (s *Source) Down(probe func()) bool {
	if s.Healthy() {
		return false
	}
	if s.Probe() {
		probe()
	}
	return true
}

// ValidationTimeout is how long a client that could be served from the cache waits for the upstream now.
func (s *Source) ValidationTimeout() time.Duration {
	most := s.options.ValidationTimeout
	least := min(s.options.SuspectTimeout, most)
	usual, ok := s.latency.usual()
	if !ok {
		return least
	}
	return min(max(least, latencyFactor*usual), most)
}

// Validates reports whether clients wait for the upstream at all.
func (s *Source) Validates() bool { return s.options.ValidationTimeout > 0 }

const (
	// maxLists is how many complete lists are put together at a time, each of which takes memory.
	maxLists = 4
	// maxPages bounds the pages of one list.
	maxPages = 1000
	// pagesTimeout bounds the time in which a list is put together.
	pagesTimeout = 2 * time.Minute
)

// EachPage visits the pages of one of the upstream's lists from the one that query asks for, each in a slot of Parsing:
// parsing a list takes a multiple of its size.
func (s *Source) EachPage(ctx context.Context, repository, path string, query url.Values, visit func(remote.Document) error) error {
	release, err := s.acquireOf(ctx, s.lists)
	if err != nil {
		return err
	}
	defer release()
	late := &remote.Error{Reason: remote.Unavailable, Host: s.options.Host, Cause: "its list took too long"}
	ctx, cancel := context.WithTimeoutCause(ctx, pagesTimeout, late)
	defer cancel()
	for range maxPages {
		page, err := s.List(ctx, repository, path, query)
		if err != nil && errors.Is(context.Cause(ctx), late) {
			return late
		}
		if err != nil {
			return err
		}
		if err := s.options.Parsing.Do(ctx, func() error { return visit(page) }); err != nil {
			return err
		}
		if page.Next == nil {
			return nil
		}
		query = page.Next
	}
	return s.Invalid("its list has too many pages")
}
