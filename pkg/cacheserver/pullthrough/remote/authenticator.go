// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/larder-project/larder/pkg/credentials"
)

// maxPlaces bounds the other hosts that a session remembers.
const maxPlaces = 16

// authenticator authenticates each request of a session by its destination. It works below the client that follows
// redirects, so that every hop is a request of its own: the upstream sees the session's credential or tokens, and any
// other host an anonymous token at most.
//
// A request starts with the grant that was accepted before. If it is refused, the grant may have expired, whichever way
// the upstream signals that: with 401 and a challenge as it should, with 400 or 403, with 404 for hidden objects, or
// with a challenge for another realm. Then the grant is dropped, and the request starts over without one, once.
type authenticator struct {
	client     *Client
	credential credentials.Credential
	// shown is set once the credential has been sent anywhere.
	shown atomic.Bool
	// loggedIn is set once the upstream, or its token service, has accepted the credential.
	loggedIn atomic.Bool
	// upstream is the place of the upstream itself.
	upstream *place

	mu     sync.Mutex
	others *simplelru.LRU[string, *place]
}

func newAuthenticator(client *Client, credential credentials.Credential) *authenticator {
	a := &authenticator{client: client, credential: credential, others: newLRU[string, *place](maxPlaces)}
	a.upstream = newPlace(a, true)
	a.upstream.credential = credential
	return a
}

// RoundTrip implements http.RoundTripper.
func (a *authenticator) RoundTrip(req *http.Request) (*http.Response, error) {
	p, repository := a.place(req), infoOf(req.Context()).repository
	held, isNew, err := p.held(req.Context(), repository)
	if err != nil {
		return nil, err
	}
	if held != nil {
		resp, err := p.send(req, held)
		if err != nil || !refuses(resp.StatusCode) {
			return resp, err
		}
		if isNew {
			p.noteRefusal(repository, resp.StatusCode)
		}
		offered, _ := p.choose(req, resp)
		if !p.mayHaveExpired(held, repository, resp.StatusCode, offered) {
			return resp, nil
		}
		discard(resp)
		p.drop(repository, held)
		if offered != nil && offered.sameRealm(held.challenge) {
			return p.respond(req, repository, *offered, held)
		}
	}
	return p.startOver(req, repository)
}

// place returns the origin that a request goes to. An origin that another host redirected to is not trusted, even if it
// is the upstream.
func (a *authenticator) place(req *http.Request) *place {
	if a.client.guard.ownPath(req) {
		return a.upstream
	}
	key := req.URL.Scheme + "://" + canonicalHost(req.URL)
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.others.Get(key)
	if !ok {
		p = newPlace(a, false)
		a.others.Add(key, p)
	}
	return p
}

// startOver makes a request without authentication, and again with it if the server asks for it.
func (p *place) startOver(req *http.Request, repository string) (*http.Response, error) {
	resp, err := p.send(req, nil)
	if err != nil || !refuses(resp.StatusCode) {
		return resp, err
	}
	offered, err := p.choose(req, resp)
	hidden, asked := false, resp.StatusCode == http.StatusUnauthorized
	if offered == nil && err == nil && p.credential != (credentials.Credential{}) && infoOf(req.Context()).kind != kindPing {
		// The upstream may hide its objects from anonymous clients.
		offered, err = p.discoverLogin(req)
		hidden = true
	}
	if offered == nil && err == nil {
		return resp, nil
	}
	discard(resp)
	if err != nil {
		return nil, err
	}
	resp, err = p.respond(req, repository, *offered, nil)
	switch {
	case err != nil:
	case hidden && resp.StatusCode < http.StatusBadRequest:
		p.mu.Lock()
		p.hides = true
		p.mu.Unlock()
	case asked && p.own && offered.scheme == schemeBasic && resp.StatusCode == http.StatusNotFound:
		p.auth.loggedIn.Store(true)
	}
	return resp, err
}

// respond makes a request with a grant that meets a challenge.
func (p *place) respond(req *http.Request, repository string, c challenge, refused *grant) (*http.Response, error) {
	g, err := p.obtain(req.Context(), repository, c, refused)
	if err != nil {
		return nil, err
	}
	resp, err := p.send(req, g)
	if err == nil && refuses(resp.StatusCode) {
		p.noteRefusal(repository, resp.StatusCode)
	}
	return resp, err
}

func (p *place) send(req *http.Request, g *grant) (*http.Response, error) {
	if g != nil {
		ctx := req.Context()
		if !p.own {
			ctx = withoutCredential(ctx)
		}
		req = req.Clone(ctx)
		req.Header.Set("Authorization", g.header)
	}
	return p.auth.client.guard.RoundTrip(req)
}

// refuses reports whether a status may mean that a request is not sufficiently authenticated. That excludes those about
// methods, ranges, media types and rates.
func refuses(status int) bool {
	switch status {
	case http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusRequestTimeout,
		http.StatusRequestedRangeNotSatisfiable, http.StatusTooManyRequests:
		return false
	}
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError
}
