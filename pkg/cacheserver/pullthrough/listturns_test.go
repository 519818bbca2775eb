// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// listing is an upstream that has lists.
type listing struct{ *slowRegistry }

// List implements remote.Registry.
func (listing) List(_ context.Context, _, path string, _ url.Values) (remote.Document, error) {
	if path == tagsPath {
		return remote.Document{Content: []byte(`{"tags":["v1"]}`)}, nil
	}
	return remote.Document{Content: []byte(`{"schemaVersion":2,"manifests":[{"artifactType":"a/b"},{"artifactType":"c/d"}]}`)}, nil
}

// shown remembers where what is written is, not only what.
type shown struct {
	*httptest.ResponseRecorder
	at *byte
}

// Write implements io.Writer.
func (s *shown) Write(p []byte) (int, error) {
	s.at = &p[0]
	return s.ResponseRecorder.Write(p)
}

func TestListsAreParsedInTurns(t *testing.T) {
	withLists := func(o *Options) { o.Upstream = listing{o.Upstream.(*slowRegistry)} }
	for _, list := range []func(ctx context.Context, e *Engine) error{
		func(ctx context.Context, e *Engine) error {
			_, err := e.listTags(ctx, tagQuery{repository: "library/app"})
			return err
		},
		func(ctx context.Context, e *Engine) error {
			_, err := e.listTags(ctx, tagQuery{repository: "library/app", limit: 1})
			return err
		},
		func(ctx context.Context, e *Engine) error {
			_, err := e.referrers(ctx, "library/app", digest.FromString("subject"))
			return err
		},
	} {
		inBubble(t, withLists, func(b bubble) {
			release := b.takeReads()
			listed := make(chan error, 1)
			go func() { listed <- list(b.t.Context(), b.engine) }()
			synctest.Wait()
			b.Expect(listed).To(BeEmpty())
			release()
			b.Expect(<-listed).To(Succeed())
			b.Expect(b.engine.reads).To(BeEmpty())
		})
	}
}

func TestClientsShareTheReferrersOfOneType(t *testing.T) {
	withLists := func(o *Options) { o.Upstream = listing{o.Upstream.(*slowRegistry)} }
	inBubble(t, withLists, func(b bubble) {
		release := b.takeReads()
		answered := make(chan *shown)
		for range 2 {
			go func() {
				path := "/v2/library/app/referrers/" + digest.FromString("subject").String() + "?artifactType=a/b"
				w := &shown{ResponseRecorder: httptest.NewRecorder()}
				r := httptest.NewRequestWithContext(b.t.Context(), http.MethodGet, path, http.NoBody)
				b.engine.Referrers(API{}, http.NotFoundHandler()).ServeHTTP(w, r)
				answered <- w
			}()
		}
		synctest.Wait()
		release()
		first, second := <-answered, <-answered
		b.Expect(first.at).To(BeIdenticalTo(second.at))
		b.Expect(first.Body.String()).To(And(ContainSubstring("a/b"), Not(ContainSubstring("c/d"))))
		b.Expect(first.Header().Get("OCI-Filters-Applied")).To(Equal("artifactType"))
	})
}

// takeReads takes all turns of the reads.
func (b bubble) takeReads() (release func()) {
	for range cap(b.engine.reads) {
		b.engine.reads <- struct{}{}
	}
	return func() {
		for range cap(b.engine.reads) {
			<-b.engine.reads
		}
	}
}
