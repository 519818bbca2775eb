// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/distribution/distribution/v3"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

const (
	// maxTags bounds how many tags are listed.
	maxTags = 100_000
	// maxListings is how many whole lists are put together at a time.
	maxListings = 4
	// maxKnownTags is how many bytes the lists take that are known in an outage, and maxKnownList one of them.
	maxKnownTags = 1 << 20
	maxKnownList = maxKnownTags / 4
)

// All implements distribution.TagService.
func (s *tagService) All(ctx context.Context) ([]string, error) {
	tags, err := s.List(ctx, -1, "")
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return tags, err
}

// tagQuery is what is asked for.
type tagQuery struct {
	repository string
	limit      int // none if it is not positive
	last       string
}

// tagPage is a part of a list of tags.
type tagPage struct {
	tags []string
	more bool
}

// List implements distribution.TagService. The error io.EOF marks the last page.
//
// In an outage, it is the last complete list of the upstream. The tags that happen to be stored are not served: the list
// would not show that most are missing, and a client that looks for the latest version would find an old one.
func (s *tagService) List(ctx context.Context, limit int, last string) ([]string, error) {
	page, err := s.engine.listTags(ctx, tagQuery{s.repository, limit, last})
	requestOf(ctx).extend()
	switch {
	case err != nil:
		return nil, clientError(ctx, err, distribution.ErrRepositoryUnknown{Name: s.repository})
	case page.more:
		return page.tags, nil
	}
	return page.tags, io.EOF
}

// listTags returns the tags of a repository that are asked for.
func (e *Engine) listTags(ctx context.Context, q tagQuery) (tagPage, error) {
	known, ok := e.known.get(q.repository)
	if ok && e.down(func() { e.listAll(q.repository) }) {
		return q.of(known), nil
	}
	page, err := e.askTags(ctx, q)
	if err != nil && ok && ctx.Err() == nil && !remote.Is(err, remote.NotFound) {
		return q.of(known), nil
	}
	return page, err
}

// askTags asks the upstream for one page if that is what is wanted, else, or if its answer is not that page, for all.
func (e *Engine) askTags(ctx context.Context, q tagQuery) (tagPage, error) {
	if q.limit > 0 {
		call, joined := e.tagPages.Start(q, func(ctx context.Context) (tagPage, error) { return e.fetchTagPage(ctx, q) })
		e.coalesced(joined)
		if page, err := call.Wait(ctx); !errors.Is(err, errNoPage) {
			return page, err
		}
	}
	all, err := e.listAll(q.repository).Wait(ctx)
	if err != nil {
		return tagPage{}, err
	}
	return q.of(all), nil
}

// errNoPage says that the upstream's pages are not those that clients are promised.
var errNoPage = errors.New("the upstream has other pages")

// fetchTagPage returns the page of the upstream's tags that a query asks for.
func (e *Engine) fetchTagPage(ctx context.Context, q tagQuery) (tagPage, error) {
	query := url.Values{"n": {strconv.Itoa(q.limit)}}
	if q.last != "" {
		query.Set("last", q.last)
	}
	answer, err := e.upstream.List(ctx, q.repository, tagsPath, query)
	if refusesQuery(err, q) {
		return tagPage{}, errNoPage
	}
	if err != nil {
		return tagPage{}, err
	}
	var tags []string
	err = e.inTurn(ctx, func() (err error) {
		tags, err = e.parseTags(answer)
		return err
	})
	switch {
	case err != nil:
		return tagPage{}, err
	case !followsOn(tags, answer.Next, q.last):
		return tagPage{}, errNoPage
	case len(tags) > q.limit: // Some registries ignore n.
		return tagPage{tags: tags[:q.limit], more: true}, nil
	}
	return tagPage{tags: tags, more: answer.Next != nil}, nil
}

// refusesQuery reports whether an upstream may have meant the query, not the repository: some do not find a last tag that
// is gone, others refuse a number that is too large for them.
func refusesQuery(err error, q tagQuery) bool {
	switch remote.StatusOf(err) {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return true
	case http.StatusNotFound:
		return q.last != ""
	}
	return false
}

const tagsPath = "tags/list"

// listAll starts to put all tags of a repository together, or joins the call that does so already.
func (e *Engine) listAll(repository string) *coalesce.Call[[]string] {
	call, joined := e.tagLists.Start(repository, func(ctx context.Context) ([]string, error) {
		return e.fetchTags(ctx, repository)
	})
	e.coalesced(joined)
	return call
}

func (e *Engine) coalesced(joined bool) {
	if joined {
		e.metrics.Coalesced.WithLabelValues(metrics.Manifest).Inc()
	}
}

// fetchTags returns all of the upstream's tags, and keeps them for outages.
func (e *Engine) fetchTags(ctx context.Context, repository string) ([]string, error) {
	done, err := turn(ctx, e.listings)
	if err != nil {
		return nil, err
	}
	defer done()
	var all []string
	err = e.pages(ctx, repository, tagsPath, nil, func(page remote.Document) error {
		tags, err := e.parseTags(page)
		all = append(all, tags...)
		if err == nil && len(all) > maxTags {
			err = e.invalid("its list of tags is too long")
		}
		return err
	})
	switch {
	case err == nil:
		e.known.put(repository, all)
	case remote.Is(err, remote.NotFound):
		e.known.drop(repository)
	}
	return all, err
}

// of returns the part of a whole list that is asked for.
func (q tagQuery) of(all []string) tagPage {
	all = after(q.last, all)
	if q.limit > 0 && q.limit < len(all) {
		return tagPage{tags: all[:q.limit], more: true}
	}
	return tagPage{tags: all}
}

// after returns what follows a tag, in the order of the upstream, whichever that is. A tag that is not there, since it has
// been removed, has a place in lexical order only.
func after(last string, all []string) []string {
	if i := slices.Index(all, last); i >= 0 {
		return all[i+1:]
	}
	if last == "" {
		return all
	}
	var rest []string
	for _, tag := range all {
		if tag > last {
			rest = append(rest, tag)
		}
	}
	return rest
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
func (e *Engine) parseTags(page remote.Document) ([]string, error) {
	var answer struct {
		Tags []string `json:"tags"`
	}
	if manifest.CheckBounds(page.Content) != nil {
		return nil, e.invalid("its list of tags is too long")
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

// knownTags are the last complete lists of tags, for outages. They are in memory only: after a restart during an outage,
// lists are refused.
type knownTags struct {
	mu    sync.Mutex
	bytes int
	lists map[string][]string
}

func (k *knownTags) get(repository string) ([]string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	tags, ok := k.lists[repository]
	return tags, ok
}

func (k *knownTags) put(repository string, tags []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(repository)
	size := sizeOfTags(repository, tags)
	if size > maxKnownList {
		return
	}
	if k.bytes+size > maxKnownTags {
		clear(k.lists)
		k.bytes = 0
	}
	k.lists[repository] = tags
	k.bytes += size
}

func (k *knownTags) drop(repository string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(repository)
}

// remove is drop with mu held.
func (k *knownTags) remove(repository string) {
	if tags, ok := k.lists[repository]; ok {
		k.bytes -= sizeOfTags(repository, tags)
		delete(k.lists, repository)
	}
}

func sizeOfTags(repository string, tags []string) int {
	const headers = 16 // of each string
	size := len(repository) + headers
	for _, tag := range tags {
		size += len(tag) + headers
	}
	return size
}
