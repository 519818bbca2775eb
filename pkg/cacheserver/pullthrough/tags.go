// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/upstream"
)

// tagService resolves the tags of a repository.
type tagService struct {
	engine     *Engine
	repository string
	owner      *repository
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
		e.metrics.StaleTags.WithLabelValues("down").Inc()
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
	d, err := waitUntil(ctx, call, call.Begun.Add(e.options.Patience))
	moved := err == nil && d != cached
	if moved {
		// The upstream answers, so a cached image is no excuse for not having the new one.
		follow := e.follow(repository, tag, d)
		d, err = waitUntil(ctx, follow, follow.Begun.Add(movePatience))
		if r := requestOf(ctx); r != nil {
			r.fetched = err == nil
		}
	}
	switch {
	case err == nil:
		return d, nil
	case upstream.Is(err, upstream.NotFound) && !moved:
		return "", err // The upstream has removed the tag, and should be believed.
	case ctx.Err() != nil:
		return "", err
	case errors.Is(err, context.DeadlineExceeded):
		e.metrics.StaleTags.WithLabelValues("slow").Inc()
	default:
		e.metrics.StaleTags.WithLabelValues(reason(err)).Inc()
	}
	return cached, nil
}

// movePatience is how long a client that could be served from the cache waits for the manifest that a tag has moved to.
const movePatience = 10 * time.Second

// follow has the manifest ready that a tag has moved to, and moves the tag then, unless it has moved on since.
func (e *Engine) follow(repository, tag string, d digest.Digest) *coalesce.Call[digest.Digest] {
	call, _ := e.moves.Start(repository+":"+tag+"@"+d.String(), func(ctx context.Context) (digest.Digest, error) {
		if _, err := e.manifest(ctx, repository, d); err != nil {
			return "", err
		}
		e.setTag(repository, tag, d)
		return d, nil
	})
	return call
}

func waitUntil[T any](ctx context.Context, call *coalesce.Call[T], deadline time.Time) (T, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return call.Wait(ctx)
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
			if info, err := manifest.Parse(m.content, m.mediaType); err == nil {
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

// maxTags bounds how many tags are listed.
const maxTags = 100_000

// All implements distribution.TagService.
func (s *tagService) All(ctx context.Context) ([]string, error) {
	tags, err := s.List(ctx, -1, "")
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return tags, err
}

// tagPage is a part of a list of tags.
type tagPage struct {
	tags []string
	more bool
}

// List implements distribution.TagService: the upstream's tags, or, if it does not answer, those in the store. The
// error io.EOF marks the last page.
func (s *tagService) List(ctx context.Context, limit int, last string) ([]string, error) {
	e := s.engine
	call, joined := e.tags.Start(fmt.Sprintf("%s?n=%d&last=%s", s.repository, limit, last), func(ctx context.Context) (tagPage, error) {
		return e.fetchTags(ctx, s.repository, limit, last)
	})
	if joined {
		e.metrics.Coalesced.WithLabelValues(metrics.Manifest).Inc()
	}
	page, err := call.Wait(ctx)
	requestOf(ctx).extend()
	switch {
	case err != nil:
		return s.listStored(ctx, limit, last, err)
	case page.more:
		return page.tags, nil
	}
	return page.tags, io.EOF
}

// fetchTags returns at most limit of the upstream's tags, without a limit all, from those on that follow last.
func (e *Engine) fetchTags(ctx context.Context, repository string, limit int, last string) (tagPage, error) {
	const path = "tags/list"
	if limit > 0 {
		query := url.Values{"n": {strconv.Itoa(limit)}}
		if last != "" {
			query.Set("last", last)
		}
		page, err := e.upstream.List(ctx, repository, path, query)
		if err != nil {
			return tagPage{}, err
		}
		tags, err := e.parseTags(page)
		if err != nil || followsOn(tags, page.Next, last) {
			return tagPage{tags: tags, more: page.Next != nil}, err
		}
	}
	var all []string
	err := e.pages(ctx, repository, path, nil, func(page upstream.Document) error {
		tags, err := e.parseTags(page)
		all = append(all, tags...)
		if err == nil && len(all) > maxTags {
			err = e.invalid("its list of tags is too long")
		}
		return err
	})
	if err != nil {
		return tagPage{}, err
	}
	all = after(last, all)
	if limit > 0 && limit < len(all) {
		return tagPage{tags: all[:limit], more: true}, nil
	}
	return tagPage{tags: all}, nil
}

// after returns what follows a tag, in the order of the upstream, whichever that is. A tag that is not there, since it has
// been removed, has a place in lexical order only.
func after(last string, all []string) []string {
	if i := slices.Index(all, last); i >= 0 {
		return all[i+1:]
	}
	return slices.DeleteFunc(all, func(tag string) bool { return tag <= last })
}

// followsOn reports whether a page of tags is the one after the tag last, and the next one follows on its own last tag,
// as the specification wants it. There are registries that know only by a token of their own where a page begins.
func followsOn(tags []string, next url.Values, last string) bool {
	if len(tags) == 0 {
		return next == nil
	}
	return slices.Min(tags) > last && (next == nil || next.Get("last") == tags[len(tags)-1])
}

// parseTags reads the names in a list of tags, without those that cannot be any.
func (e *Engine) parseTags(page upstream.Document) ([]string, error) {
	var answer struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(page.Content, &answer); err != nil {
		return nil, e.invalid("its list of tags cannot be parsed")
	}
	tags := answer.Tags[:0]
	for _, tag := range answer.Tags {
		if len(tag) > 0 && len(tag) <= 128 {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

func (s *tagService) listStored(ctx context.Context, limit int, last string, cause error) ([]string, error) {
	unknown := distribution.ErrRepositoryUnknown{Name: s.repository}
	switch {
	case upstream.Is(cause, upstream.NotFound):
		return nil, unknown
	case upstream.Is(cause, upstream.Invalid):
		return nil, clientError(ctx, cause, unknown) // It is there, and has others than those that are stored.
	}
	local, err := s.local(ctx)
	if err != nil {
		return nil, err
	}
	tags, err := local.List(ctx, limit, last)
	if errors.As(err, new(distribution.ErrRepositoryUnknown)) {
		return nil, clientError(ctx, cause, unknown)
	}
	return tags, err
}

// local is Distribution's own service, over what is stored.
func (s *tagService) local(ctx context.Context) (distribution.TagService, error) {
	local, err := s.owner.namespace.Namespace.Repository(ctx, s.owner.name)
	if err != nil {
		return nil, err
	}
	return local.Tags(ctx), nil
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
