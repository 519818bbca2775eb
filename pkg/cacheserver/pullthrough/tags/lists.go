// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package tags

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/lru"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
)

const (
	listPath = "tags/list"
	// maxTags bounds the tags of one list, maxTagBytes the length of one of them.
	maxTags     = 100_000
	maxTagBytes = 128
	// knownBytes bounds the memory for the lists that are kept for outages, maxKnownList that of one list.
	knownBytes   = 1 << 20
	maxKnownList = knownBytes / 4
)

// lists are the lists of tags of all repositories.
type lists struct {
	Options
	pages    *coalesce.Group[query, page]
	complete *coalesce.Group[string, []string]
	// known are the latest complete lists, for outages. They are in memory only: after a restart during an outage,
	// lists are refused.
	known *lru.Cache[string, []string]
}

func newLists(o Options) *lists {
	return &lists{
		Options:  o,
		pages:    coalesce.New[query, page](),
		complete: coalesce.New[string, []string](),
		known:    lru.New(knownBytes, maxKnownList, listBytes),
	}
}

func (l *lists) close() {
	l.pages.Close()
	l.complete.Close()
}

// query is what a client asks for.
type query struct {
	repository string
	limit      int // none if it is not positive
	last       string
}

// page is a part of a list of tags.
type page struct {
	tags []string
	more bool
}

// errNoPage means that the upstream does not paginate as the specification requires.
var errNoPage = errors.New("the upstream has other pages")

// get returns the tags that a query asks for. In an outage, they come from the last complete list. The tags that happen
// to be stored are no substitute: the list would not show that most are missing, and a client that looks for the latest
// version would find an old one.
func (l *lists) get(ctx context.Context, q query) (page, error) {
	known, ok := l.known.Get(q.repository)
	if ok && l.Source.Down(func() { l.startComplete(q.repository) }) {
		response.From(ctx).Note(event.Stale, event.Unvalidated(event.Down))
		return q.of(known), nil
	}
	p, err := l.ask(ctx, q)
	if err != nil && ok && ctx.Err() == nil && !remote.Is(err, remote.NotFound) {
		response.From(ctx).Note(event.Stale, event.Unvalidated(metrics.Reason(err)))
		return q.of(known), nil
	}
	return p, err
}

// ask requests one page from the upstream if the query has a limit. It requests all pages if there is no limit, or if
// the upstream's pagination cannot be used.
func (l *lists) ask(ctx context.Context, q query) (page, error) {
	if q.limit > 0 {
		call, joined := l.pages.Start(q, func(ctx context.Context) (page, error) { return l.fetchPage(ctx, q) })
		l.Metrics.Joined(metrics.Manifest, joined)
		response.From(ctx).Note(event.Fetched(joined), event.CauseList)
		if p, err := call.Wait(ctx); !errors.Is(err, errNoPage) {
			return p, err
		}
	}
	call, joined := l.startComplete(q.repository)
	response.From(ctx).Note(event.Fetched(joined), event.CauseList)
	all, err := call.Wait(ctx)
	if err != nil {
		return page{}, err
	}
	return q.of(all), nil
}

// fetchPage fetches the page of the upstream's list that a query asks for.
func (l *lists) fetchPage(ctx context.Context, q query) (page, error) {
	values := url.Values{"n": {strconv.Itoa(q.limit)}}
	if q.last != "" {
		values.Set("last", q.last)
	}
	document, err := l.Source.List(ctx, q.repository, listPath, values)
	if refusesQuery(err, q) {
		return page{}, errNoPage
	}
	if err != nil {
		return page{}, err
	}
	var tags []string
	err = l.Parsing.Do(ctx, func() (err error) {
		tags, err = l.parse(document)
		return err
	})
	switch {
	case err != nil:
		return page{}, err
	case !isNextPage(tags, document.Next, q.last):
		return page{}, errNoPage
	case len(tags) > q.limit: // Some registries ignore n.
		return page{tags: slices.Clip(tags[:q.limit]), more: true}, nil
	}
	return page{tags: tags, more: document.Next != nil}, nil
}

// refusesQuery reports whether an error may be about the query instead of the repository: some upstreams do not find a
// last tag that is gone, others refuse a number that is too large for them.
func refusesQuery(err error, q query) bool {
	switch remote.StatusOf(err) {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return true
	case http.StatusNotFound:
		return q.last != ""
	}
	return false
}

// startComplete begins to fetch the complete list of a repository, or joins the call that does so.
func (l *lists) startComplete(repository string) (*coalesce.Call[[]string], bool) {
	call, joined := l.complete.Start(repository, func(ctx context.Context) ([]string, error) {
		return l.fetchComplete(ctx, repository)
	})
	l.Metrics.Joined(metrics.Manifest, joined)
	return call, joined
}

// fetchComplete fetches all pages of the upstream's list and remembers it for outages.
func (l *lists) fetchComplete(ctx context.Context, repository string) ([]string, error) {
	var all []string
	err := l.Source.EachPage(ctx, repository, listPath, nil, func(document remote.Document) error {
		tags, err := l.parse(document)
		all = append(all, tags...)
		if err == nil && len(all) > maxTags {
			err = l.Source.Invalid("its list of tags is too long")
		}
		return err
	})
	switch {
	case err == nil:
		l.known.Add(repository, all)
	case remote.Is(err, remote.NotFound):
		l.known.Remove(repository)
	}
	return all, err
}

// parse returns the tags of a document. It drops values that are not valid tags.
func (l *lists) parse(document remote.Document) ([]string, error) {
	tags, err := parseTags(document.Content)
	if err != nil {
		return nil, l.Source.Invalid(err.Error())
	}
	return tags, nil
}

func parseTags(document []byte) ([]string, error) {
	var list struct {
		Tags []string `json:"tags"`
	}
	if manifest.CheckBounds(document) != nil {
		return nil, errors.New("its list of tags is too long")
	}
	if err := json.Unmarshal(document, &list); err != nil {
		return nil, errors.New("its list of tags cannot be parsed")
	}
	tags := list.Tags[:0]
	for _, tag := range list.Tags {
		if len(tag) > 0 && len(tag) <= maxTagBytes {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// of returns the part of a complete list that a query asks for.
func (q query) of(all []string) page {
	all = after(q.last, all)
	if q.limit > 0 && q.limit < len(all) {
		return page{tags: slices.Clip(all[:q.limit]), more: true}
	}
	return page{tags: slices.Clip(all)}
}

// after returns the tags after last, in the order of the upstream. If last no longer exists, it returns all tags that
// are lexically greater.
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

// isNextPage reports whether tags is the page after last, and whether the next page starts after its last tag, as the
// specification requires. Some registries find the next page only by a token of their own.
func isNextPage(tags []string, next url.Values, last string) bool {
	if len(tags) == 0 {
		return next == nil
	}
	return slices.Min(tags) > last && (next == nil || next.Get("last") == tags[len(tags)-1])
}

func listBytes(repository string, tags []string) int {
	const header = 16 // of each string
	size := len(repository) + header
	for _, tag := range tags {
		size += len(tag) + header
	}
	return size
}
