// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// maxTokens bounds the tokens that are kept for one place. There is one for each repository.
	maxTokens = 512
	// maxRefusals bounds the refusals that are remembered of one place.
	maxRefusals = 1024
	// maxPlaces bounds the other hosts that are remembered.
	maxPlaces = 16
	// believed is how long a refusal counts that a new token has met, too: the least lifetime of a token. Until then it is
	// no sign that the token has ended, so that asking again for what is not there costs one request.
	believed = time.Minute
	// loginInterval is how long an upstream is remembered that does not ask for a login.
	loginInterval = 10 * time.Minute
)

// authenticator authenticates each request of a session by its destination. It works below the client that follows
// redirects, so that every hop is a request of its own: the upstream sees the session's credential or tokens, and any
// other host an anonymous token at most.
//
// A request goes out with what was accepted before. If that is refused, it may have ended, however the upstream says so:
// with 401 and a challenge as it should, with 400 or 403, with 404 for what it hides, or with a challenge that leads
// elsewhere than before. So it is dropped, and the request starts over without any, once.
type authenticator struct {
	client     *Client
	credential credentials.Credential
	// shown says that the credential has been asked for.
	shown atomic.Bool

	mu     sync.Mutex
	places map[string]*place
}

// place is what a session knows of one origin.
type place struct {
	auth *authenticator
	// own says that it is the upstream. Only that gets the credential.
	own        bool
	credential credentials.Credential

	mu sync.Mutex
	// basic is set if the place takes the credential itself.
	basic *grant
	// tokens are by repository.
	tokens   map[string]*grant
	fetching map[string]*fetch
	// refusals are the times at which a new token was last refused. They outlive the token, since 404s and 403s may alternate.
	refusals map[refusal]time.Time
	// login is the challenge of the base path, nil if there is none, as it was learned at the given time.
	login   *challenge
	learned time.Time
	// hides says that requests without authentication are answered as if there were nothing.
	hides bool
}

// grant is what an Authorization header may say.
type grant struct {
	header    string
	challenge challenge
	// expires is zero if the end is not known. Then the grant is used until it is refused.
	expires time.Time
}

// refusal is how a place refuses requests for a repository.
type refusal struct {
	repository string
	status     int
}

// fetch is a token on its way.
type fetch struct {
	done  chan struct{}
	grant *grant
	err   error
	// abandoned says that whoever fetched it gave up.
	abandoned bool
}

func newAuthenticator(client *Client, credential credentials.Credential) *authenticator {
	return &authenticator{client: client, credential: credential, places: map[string]*place{}}
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
		if !p.hasEnded(held, repository, resp.StatusCode, offered) {
			return resp, nil
		}
		discard(resp)
		p.drop(repository, held)
		if offered != nil && offered.sameRealm(held.challenge) {
			return p.answer(req, repository, *offered, held)
		}
	}
	return p.startOver(req, repository)
}

// startOver makes a request without authentication, and with it if that is wanted.
func (p *place) startOver(req *http.Request, repository string) (*http.Response, error) {
	resp, err := p.send(req, nil)
	if err != nil || !refuses(resp.StatusCode) {
		return resp, err
	}
	offered, err := p.choose(req, resp)
	hidden := false
	if offered == nil && err == nil && p.credential != (credentials.Credential{}) && infoOf(req.Context()).kind != kindPing {
		// The upstream may hide what it has from those who do not say who they are.
		offered, err = p.askForLogin(req)
		hidden = true
	}
	if offered == nil && err == nil {
		return resp, nil
	}
	discard(resp)
	if err != nil {
		return nil, err
	}
	resp, err = p.answer(req, repository, *offered, nil)
	if hidden && err == nil && resp.StatusCode < http.StatusBadRequest {
		p.mu.Lock()
		p.hides = true
		p.mu.Unlock()
	}
	return resp, err
}

// answer makes a request with what a challenge asks for.
func (p *place) answer(req *http.Request, repository string, c challenge, refused *grant) (*http.Response, error) {
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

// refuses reports whether a status may be one's answer to a request that is not authenticated well enough. That excludes
// those about methods, ranges, forms and rates.
func refuses(status int) bool {
	switch status {
	case http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusRequestTimeout,
		http.StatusRequestedRangeNotSatisfiable, http.StatusTooManyRequests:
		return false
	}
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError
}

// hasEnded reports whether a refusal may mean that a grant is no longer good.
func (p *place) hasEnded(g *grant, repository string, status int, offered *challenge) bool {
	if g.challenge.scheme == schemeBasic {
		// A credential does not end. But the upstream may have begun to want tokens.
		return offered != nil && offered.scheme == schemeBearer
	}
	if status == http.StatusUnauthorized {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	met, ok := p.refusals[refusal{repository, status}]
	return !ok || p.auth.client.now().Sub(met) >= believed
}

func (p *place) noteRefusal(repository string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.auth.client.now()
	if len(p.refusals) >= maxRefusals {
		maps.DeleteFunc(p.refusals, func(_ refusal, met time.Time) bool { return now.Sub(met) >= believed })
		if len(p.refusals) >= maxRefusals {
			clear(p.refusals)
		}
	}
	p.refusals[refusal{repository, status}] = now
}

// place returns what is known of the origin that a request goes to. One to which another host has sent the request is
// none of ours, even if it is the upstream.
func (a *authenticator) place(req *http.Request) *place {
	own := a.client.guard.own(req.URL)
	key := req.URL.Scheme + "://" + canonicalHost(req.URL)
	for hop := req.Response; hop != nil && hop.Request != nil; hop = hop.Request.Response {
		own = own && a.client.guard.own(hop.Request.URL)
	}
	if own {
		key = ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.places[key]
	if !ok {
		if len(a.places) > maxPlaces {
			maps.DeleteFunc(a.places, func(_ string, p *place) bool { return !p.own })
		}
		p = &place{auth: a, own: own, tokens: map[string]*grant{}, fetching: map[string]*fetch{}, refusals: map[refusal]time.Time{}}
		if own {
			p.credential = a.credential
		}
		a.places[key] = p
	}
	return p
}

// held returns what a request begins with, nil if it begins without authentication.
func (p *place) held(ctx context.Context, repository string) (held *grant, isNew bool, err error) {
	p.mu.Lock()
	held, login := p.current(repository), p.login
	if !p.hides {
		login = nil
	}
	p.mu.Unlock()
	if held != nil || login == nil {
		return held, false, nil
	}
	held, err = p.obtain(ctx, repository, *login, nil)
	if err == nil || ctx.Err() != nil || Is(err, RateLimited) {
		return held, true, err
	}
	// The upstream may ask for a login elsewhere by now. The request starts over to find out.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.login == login {
		p.hides, p.learned = false, time.Time{}
	}
	return nil, false, nil
}

// current returns the grant for a repository, nil if there is none that is still good. The caller holds the lock.
func (p *place) current(repository string) *grant {
	if p.basic != nil {
		return p.basic
	}
	g := p.tokens[repository]
	if g != nil && !g.expires.IsZero() && !p.auth.client.now().Before(g.expires) {
		delete(p.tokens, repository)
		return nil
	}
	return g
}

func (p *place) drop(repository string, g *grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.basic == g {
		p.basic = nil
	}
	if p.tokens[repository] == g {
		delete(p.tokens, repository)
	}
}

// obtain returns what answers a challenge. All who need a token for the same repository at a time share one.
func (p *place) obtain(ctx context.Context, repository string, c challenge, refused *grant) (*grant, error) {
	if c.scheme == schemeBasic {
		return p.obtainBasic(c), nil
	}
	for {
		p.mu.Lock()
		p.basic = nil
		if g := p.current(repository); g != nil && g != refused {
			p.mu.Unlock()
			return g, nil
		}
		f, running := p.fetching[repository]
		if !running {
			f = &fetch{done: make(chan struct{})}
			p.fetching[repository] = f
		}
		p.mu.Unlock()
		if !running {
			p.run(ctx, f, repository, c)
			return f.grant, f.err
		}
		select {
		case <-f.done:
			if !f.abandoned {
				return f.grant, f.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *place) run(ctx context.Context, f *fetch, repository string, c challenge) {
	f.grant, f.err = p.fetchToken(ctx, repository, c)
	f.abandoned = f.err != nil && ctx.Err() != nil
	p.mu.Lock()
	delete(p.fetching, repository)
	if f.err == nil {
		if len(p.tokens) >= maxTokens {
			clear(p.tokens)
		}
		p.tokens[repository] = f.grant
	}
	p.mu.Unlock()
	close(f.done)
}

func (p *place) obtainBasic(c challenge) *grant {
	p.auth.shown.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.basic == nil {
		pair := p.credential.Username + ":" + p.credential.Password
		p.basic = &grant{header: "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)), challenge: c}
	}
	return p.basic
}

// askForLogin returns the challenge of the base path of the API, which is where clients log in; nil if there is none. It asks
// where the request was refused, since an upstream may send its clients from http to https first.
func (p *place) askForLogin(refused *http.Request) (*challenge, error) {
	client, ctx := p.auth.client, refused.Context()
	p.mu.Lock()
	login, known := p.login, !p.learned.IsZero() && client.now().Sub(p.learned) < loginInterval
	p.mu.Unlock()
	if known {
		return login, nil
	}
	info := infoOf(ctx)
	info.kind = kindPing
	target := url.URL{Scheme: refused.URL.Scheme, Host: refused.URL.Host, Path: apiRoot}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, requestKey{}, info), http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.send(client.introduce(req), nil)
	if err != nil {
		return nil, err
	}
	discard(resp)
	login = nil
	switch {
	case refuses(resp.StatusCode):
		if login, err = p.choose(req, resp); err != nil {
			return nil, err
		}
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError:
		// Until it says more, nothing can be concluded from what it answers to those who do not say who they are.
		return nil, client.fail(Unavailable, resp.StatusCode, fmt.Sprintf("it answered %d instead of asking for a login", resp.StatusCode))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login, p.learned = login, client.now()
	return login, nil
}

// choose returns the best of the challenges of an answer that can be met: a token shows a credential to fewer servers than
// the credential itself. It returns nil if there is none, and an error if there is one whose realm must not be used.
func (p *place) choose(req *http.Request, resp *http.Response) (*challenge, error) {
	offered := parseChallenges(resp.Header.Values("Www-Authenticate"))
	var refused error
	for _, c := range offered {
		if c.scheme != schemeBearer || c.realm == "" {
			continue
		}
		var err error
		if c.endpoint, err = p.checkRealm(req.URL, c.realm); err == nil {
			return &c, nil
		}
		refused = err
	}
	for _, c := range offered {
		if c.scheme == schemeBasic && p.credential != (credentials.Credential{}) {
			return &c, nil
		}
	}
	return nil, refused
}

// checkRealm decides whether tokens may be asked for at a realm. Where no credential is shown, none can be lost.
func (p *place) checkRealm(from *url.URL, realm string) (*url.URL, error) {
	client := p.auth.client
	endpoint, err := from.Parse(realm)
	switch {
	case err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http":
		return nil, client.fail(Invalid, 0, "its token realm is not the URL of a server")
	case endpoint.Scheme == "http" && from.Scheme == "https":
		return nil, client.fail(Unauthorized, 0, fmt.Sprintf("its token realm on %s is not encrypted, as the registry is", endpoint.Host))
	case p.credential != (credentials.Credential{}) && !client.guard.realmAllowed(endpoint):
		return nil, client.fail(Unauthorized, 0, fmt.Sprintf(
			"its token realm is on a foreign domain; if %s may see the credential, add it to allowedrealms", endpoint.Host))
	}
	endpoint.User, endpoint.Fragment = nil, ""
	return endpoint, nil
}

// maxDiscard is how much of an answer is read that is of no interest, so that the connection can be used again.
const maxDiscard = 8 << 10

func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDiscard)
	_ = resp.Body.Close()
}
