// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package tags

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/source"
	"github.com/larder-project/larder/test/enginefixture"
)

const (
	repositoryName    = "library/app"
	validationTimeout = 800 * time.Millisecond
)

// service is a Service in a bubble of package synctest, whose clock advances only when nothing else is left to do.
type service struct {
	Gomega
	*Service
	*enginefixture.Services
	t        *testing.T
	registry *enginefixture.Registry
}

// inBubble runs a test with an upstream, which wrap may replace.
func inBubble(t *testing.T, wrap func(*enginefixture.Registry) remote.Registry, test func(s service)) {
	synctest.Test(t, func(t *testing.T) {
		registry := &enginefixture.Registry{}
		upstream := remote.Registry(registry)
		if wrap != nil {
			upstream = wrap(registry)
		}
		services := enginefixture.New(t, upstream, func(o *source.Options) { o.ValidationTimeout = validationTimeout })
		s := service{Gomega: NewWithT(t), Services: services, t: t, registry: registry}
		s.Service = New(Options{
			Content: services.Content, Source: services.Source, Manifests: services.Manifests, Parsing: services.Parsing,
			Metrics: services.Metrics, Log: services.Log, Now: time.Now,
		})
		defer func() {
			s.Close()
			s.Expect(s.latest).To(BeEmpty())
		}()
		test(s)
	})
}

func (s service) mustResolve() (waited time.Duration, d digest.Digest) {
	s.t.Helper()
	begin := time.Now()
	d, err := s.Resolve(s.t.Context(), repositoryName, "v1")
	s.Expect(err).NotTo(HaveOccurred())
	return time.Since(begin), d
}

func TestCachedTagDoesNotWaitForASlowUpstream(t *testing.T) {
	inBubble(t, nil, func(s service) {
		first := s.registry.Push("first")
		_, d := s.mustResolve()
		s.Expect(d).To(Equal(first))

		second := s.registry.Push("second")
		s.registry.Take(time.Hour, 0)
		waited, d := s.mustResolve()
		s.Expect(d).To(Equal(first))
		s.Expect(waited).To(Equal(validationTimeout))
		waited, d = s.mustResolve()
		s.Expect(d).To(Equal(first))
		s.Expect(waited).To(BeZero(), "the request has taken too long already")

		time.Sleep(time.Hour)
		s.registry.Take(validationTimeout-1, 0)
		waited, d = s.mustResolve()
		s.Expect(d).To(Equal(second))
		s.Expect(waited).To(BeNumerically("<", validationTimeout))
	})
}

func TestMovedTagWaitsLongerForItsManifest(t *testing.T) {
	inBubble(t, nil, func(s service) {
		first := s.registry.Push("first")
		_, d := s.mustResolve()
		s.Expect(d).To(Equal(first))

		second := s.registry.Push("second")
		s.registry.Take(validationTimeout-1, moveTimeout-1)
		waited, d := s.mustResolve()
		s.Expect(d).To(Equal(second))
		s.Expect(waited).To(Equal(validationTimeout - 1 + moveTimeout - 1))

		s.registry.Push("third")
		s.registry.Take(validationTimeout-1, time.Hour)
		waited, d = s.mustResolve()
		s.Expect(d).To(Equal(second), "a cached image is better than none")
		s.Expect(waited).To(Equal(validationTimeout - 1 + moveTimeout))
		waited, d = s.mustResolve()
		s.Expect(d).To(Equal(second))
		s.Expect(waited).To(Equal(validationTimeout-1), "the manifest has been waited for")
	})
}

// mislabelling is an upstream whose headers contain a digest that it does not have.
type mislabelling struct {
	*enginefixture.Registry
	reason remote.Reason
}

// Resolve implements remote.Registry.
func (mislabelling) Resolve(context.Context, string, string) (digest.Digest, error) {
	return digest.FromString("wrong"), nil
}

// FetchManifest implements remote.Registry.
func (r mislabelling) FetchManifest(ctx context.Context, repository, reference string) (remote.Manifest, error) {
	if reference == digest.FromString("wrong").String() {
		return remote.Manifest{}, &remote.Error{Reason: r.reason}
	}
	return r.Registry.FetchManifest(ctx, repository, reference)
}

func TestWrongDigestInHeaderFallsBackToTheManifestOfTheTag(t *testing.T) {
	for _, reason := range []remote.Reason{remote.NotFound, remote.Invalid} {
		wrap := func(r *enginefixture.Registry) remote.Registry { return mislabelling{r, reason} }
		inBubble(t, wrap, func(s service) {
			s.registry.Push("first")
			s.mustResolve()
			moved := s.registry.Push("second")
			for range 2 {
				_, d := s.mustResolve()
				s.Expect(d).To(Equal(moved))
			}
			cached, _ := s.cached(key{repositoryName, "v1"})
			s.Expect(cached).To(Equal(moved))
		})
	}
}

func TestRequestsForAMovedTagShareItsManifest(t *testing.T) {
	var upstream *counting
	wrap := func(r *enginefixture.Registry) remote.Registry {
		upstream = &counting{mislabelling: mislabelling{r, remote.NotFound}}
		return upstream
	}
	inBubble(t, wrap, func(s service) {
		s.registry.Push("first")
		s.mustResolve()
		upstream.fetches.Store(0)
		moved := s.registry.Push("second")
		s.registry.Take(0, time.Second)
		var requests sync.WaitGroup
		for range 60 {
			time.Sleep(time.Millisecond)
			requests.Go(func() {
				_, d := s.mustResolve()
				s.Expect(d).To(Equal(moved))
			})
		}
		requests.Wait()
		s.Expect(upstream.fetches.Load()).To(BeEquivalentTo(2), "one by the wrong digest, one by tag")
	})
}

// counting counts requests for manifests.
type counting struct {
	mislabelling
	fetches atomic.Int32
}

// FetchManifest implements remote.Registry.
func (r *counting) FetchManifest(ctx context.Context, repository, reference string) (remote.Manifest, error) {
	r.fetches.Add(1)
	return r.mislabelling.FetchManifest(ctx, repository, reference)
}

func TestListsOfTagsAreParsedInASlot(t *testing.T) {
	for _, limit := range []int{-1, 1} {
		inBubble(t, nil, func(s service) {
			s.registry.Tags = `{"tags":["v1"]}`
			release := s.HoldParsing()
			listed := make(chan error, 1)
			go func() {
				_, err := s.lists.get(s.t.Context(), query{repository: repositoryName, limit: limit})
				listed <- err
			}()
			synctest.Wait()
			s.Expect(listed).To(BeEmpty())
			release()
			s.Expect(<-listed).To(Succeed())
			s.Expect(s.Services.Parsing).To(BeEmpty())
		})
	}
}
