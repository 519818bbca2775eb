// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// maxGuests bounds the sessions of guests.
	maxGuests = 256
	// guestIdle is how long the session of a guest, and with it the credential, is kept without requests.
	guestIdle = time.Minute
	// tagList is the path of the tags below a repository.
	tagList = "tags/list"
)

// Guests have credentials other than the cache's own: those of clients. The upstream accepted each for a repository, so
// requests for this repository may be made with it if the cache has no credential for it. They are no evidence about
// the cache's own credential, and their rate limits are not reported.
type Guests interface {
	// For returns a credential for a repository that was not tried yet, if there is one that still counts.
	For(repository string, tried []credentials.Credential) (c credentials.Credential, ok bool)
	// Rejected is called when the upstream rejects such a credential for a repository, or requests without one, which have
	// the zero value.
	Rejected(repository string, c credentials.Credential)
}

// guestSessions keeps the sessions of guests, which the rotation of the cache's own credentials does not concern. The
// zero Credential is the anonymous guest.
type guestSessions struct {
	mu           sync.Mutex
	byCredential *simplelru.LRU[credentials.Credential, *guestSession]
}

type guestSession struct {
	*session
	opened, used time.Time
}

func newGuestSessions() *guestSessions {
	return &guestSessions{byCredential: newLRU[credentials.Credential, *guestSession](maxGuests)}
}

// guest returns the session of a guest, and when it was opened, which is before the upstream issued any of its tokens.
// A session older than maxAge is replaced; 0 is no limit.
func (c *Client) guest(credential credentials.Credential, maxAge time.Duration) (*session, time.Time) {
	g := c.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	now := c.now()
	known, ok := g.byCredential.Get(credential)
	if !ok || maxAge > 0 && now.Sub(known.opened) > maxAge {
		s := c.openSession("", credential)
		s.check, s.guest = true, true
		if ok {
			s.limiter = known.limiter // A new token does not end a rate limit.
			s.accepted.Store(known.accepted.Load())
		}
		known = &guestSession{session: s, opened: now}
		g.byCredential.Add(credential, known)
	}
	known.used = now
	return known.session, known.opened
}

func (g *guestSessions) forget(credential credentials.Credential) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byCredential.Remove(credential)
}

// expire drops the sessions that were not used for long.
func (g *guestSessions) expire(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, credential := range g.byCredential.Keys() {
		if known, _ := g.byCredential.Peek(credential); now.Sub(known.used) > guestIdle {
			g.byCredential.Remove(credential)
		}
	}
}

// Authorize returns nil if the upstream serves an object of a repository to a credential; the zero value means to
// anyone. The path is that of a manifest, a blob or the list of tags below the repository. A token proves nothing,
// since many token services issue one without the permission that was asked for, so the object itself is requested.
//
// The permission is as old as asOf: the client does not use tokens that are older than maxAge.
func (c *Client) Authorize(ctx context.Context, repository, path string, credential credentials.Credential, maxAge time.Duration) (asOf time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	s, asOf := c.guest(credential, maxAge)
	resp, err := c.try(ctx, question(repository, path), s)
	if err == nil {
		err = c.checkProof(ctx, resp, path)
	}
	switch {
	case err == nil:
		s.accepted.Store(true)
	case credential == (credentials.Credential{}):
	case Is(err, Unauthorized), !s.accepted.Load() && !Is(err, RateLimited): // The session has the limit.
		c.guests.forget(credential)
	}
	var refusal *Error
	if errors.As(err, &refusal) && refusal.Reason == NotFound && s.auth.loggedIn.Load() {
		missing := *refusal
		missing.LoggedIn = true
		err = &missing
	}
	return asOf, err
}

// AuthorizeOwn returns nil if the upstream serves an object of a repository to the cache's own credential. It does not
// report a refusal: others may read what that credential may not.
func (c *Client) AuthorizeOwn(ctx context.Context, repository, path string) (asOf time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	asOf = c.now()
	scope, credential, err := c.credentialFor(ctx, repository)
	if err != nil {
		return asOf, c.withoutCredential(ctx, err)
	}
	resp, err := c.attempt(ctx, question(repository, path), scope, credential)
	if err == nil {
		err = c.checkProof(ctx, resp, path)
	}
	return asOf, err
}

// question is the request for an object that asks whether the upstream serves it.
func question(repository, path string) call {
	object := call{kind: kindBlob + headSuffix, method: http.MethodHead, repository: repository, path: path, header: http.Header{}}
	switch {
	case strings.HasPrefix(path, manifests):
		object.kind, object.header = kindManifest+headSuffix, http.Header{"Accept": {manifestTypes}}
	case path == tagList:
		object.kind, object.method, object.query = kindList, http.MethodGet, url.Values{"n": {"1"}}
	}
	return object
}

// checkProof closes a successful response, and returns an error if no registry would send it for an object: a portal, a
// proxy or a maintenance page may respond to whatever request with success, which permits nothing.
func (c *Client) checkProof(ctx context.Context, resp *http.Response, path string) error {
	defer resp.Body.Close()
	proven, mediaType := false, parseMediaType(resp.Header.Get("Content-Type"))
	tag, isManifest := strings.CutPrefix(path, manifests)
	switch {
	case path == tagList:
		content, err := c.readAll(ctx, resp, maxDocument)
		if err != nil {
			return err
		}
		var list map[string]json.RawMessage
		proven = json.Unmarshal(decoded(resp, content, maxDocument), &list) == nil && list["tags"] != nil
	case isManifest:
		// Some registries send a wrong digest, but the right type; see confirms.
		proven = isManifestType(mediaType) || mediaType != webPage && sentDigest(resp, tag)
	default:
		isContent := mediaType == "application/octet-stream" || resp.ContentLength > 0 && !isDocument(mediaType)
		proven = isContent || mediaType != webPage && sentDigest(resp, strings.TrimPrefix(path, blobs))
	}
	if !proven {
		return c.fail(Invalid, resp.StatusCode, "sent something other than a registry does")
	}
	return nil
}

// sentDigest reports whether a response has a digest in its header: for a reference that is a digest, that one.
func sentDigest(resp *http.Response, reference string) bool {
	sent, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	_, isTag := digest.Parse(reference)
	return err == nil && (isTag != nil || sent.String() == reference)
}

// isManifestType reports whether a media type is one of manifests, of whatever version.
func isManifestType(mediaType string) bool {
	for _, prefix := range []string{
		"application/vnd.oci.image.", "application/vnd.oci.artifact.manifest.", "application/vnd.docker.distribution.manifest.",
	} {
		if strings.HasPrefix(mediaType, prefix) {
			return true
		}
	}
	return false
}

// isDocument reports whether a media type is one of pages and APIs, which storage does not send with blobs.
func isDocument(mediaType string) bool {
	switch mediaType {
	case "application/json", "application/problem+json", "application/xhtml+xml", "application/xml":
		return true
	}
	return strings.HasPrefix(mediaType, "text/")
}

// payingGuests reports whether guests may pay for requests, in place of the cache's own credential for a scope: there
// is none, or the upstream has rejected it for the repository.
func (c *Client) payingGuests(scope string, own credentials.Credential, repository string) bool {
	return c.guestList != nil && repository != "" && (own == credentials.Credential{} || c.denied.has(scope, repository))
}

// asGuest makes a call with the credentials of guests until the upstream accepts one. Tried is false if there is none.
//
// The rate limit of one guest must not fail the fetches of the others, and some registries hide a repository from a
// guest that has lost its permission. If no guest succeeds, a rate limit is the error that decides least: with that
// guest, the object may exist.
func (c *Client) asGuest(ctx context.Context, call call) (resp *http.Response, tried bool, err error) {
	if c.guestList == nil || call.repository == "" {
		return nil, false, nil
	}
	var used []credentials.Credential
	var limited, missing, rejected error // the first of each
	for len(used) < maxRejected {
		credential, ok := c.guestList.For(call.repository, used)
		if !ok {
			break
		}
		used = append(used, credential)
		s, _ := c.guest(credential, 0)
		resp, err := c.try(ctx, call, s)
		switch {
		case Is(err, RateLimited):
			limited = cmp.Or(limited, err)
		case Is(err, NotFound):
			missing = cmp.Or(missing, err)
		case Is(err, Unauthorized):
			rejected = cmp.Or(rejected, err)
			c.guests.forget(credential)
			c.guestList.Rejected(call.repository, credential)
		default:
			return resp, true, err
		}
	}
	return nil, len(used) > 0, cmp.Or(limited, missing, rejected)
}
