// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/base64"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// maxTokens bounds the tokens of a place. There is one for each repository.
	maxTokens = 512
	// maxRefusals bounds the refusals that are remembered of a place.
	maxRefusals = 1024
	// refusalLasts is the least lifetime of a token. For that long after a new token was refused, a refusal does not
	// mean that the token has expired, so that asking again for a missing object costs one request.
	refusalLasts = time.Minute
)

// place is the state of a session at one origin.
type place struct {
	auth *authenticator
	// own means that the origin is the upstream. Only that sees the credential.
	own        bool
	credential credentials.Credential

	mu sync.Mutex
	// basic is set if the place accepts the credential itself: a user name and a password, or a registry token.
	basic *grant
	// tokens are by repository.
	tokens   *simplelru.LRU[string, *grant]
	fetching map[string]*tokenFetch
	// refusals are the times at which a new token was last refused. They outlive the token, since 404s and 403s may
	// alternate.
	refusals *simplelru.LRU[refusal, time.Time]
	// login is the challenge of the base path, nil if there is none; it was discovered at the given time.
	login      *challenge
	discovered time.Time
	// hides means that the place pretends to anonymous clients that objects do not exist.
	hides bool
}

// grant is the value of an Authorization header.
type grant struct {
	header    string
	challenge challenge
	// expires is zero if the lifetime is unknown. Then the grant is used until it is refused.
	expires time.Time
}

// refusal is how a place refuses requests for a repository.
type refusal struct {
	repository string
	status     int
}

// tokenFetch is a request for a token that other requests wait for.
type tokenFetch struct {
	done  chan struct{}
	grant *grant
	err   error
	// abandoned means that the request that made it was cancelled.
	abandoned bool
}

func newPlace(auth *authenticator, own bool) *place {
	return &place{
		auth: auth, own: own, fetching: map[string]*tokenFetch{},
		tokens: newLRU[string, *grant](maxTokens), refusals: newLRU[refusal, time.Time](maxRefusals),
	}
}

// held returns the grant that a request starts with, nil if it starts without authentication.
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
	// The upstream may have moved its login. The request starts over to find out.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.login == login {
		p.hides, p.discovered = false, time.Time{}
	}
	return nil, false, nil
}

// current returns the grant for a repository, nil if there is none that is valid. The caller holds the lock.
func (p *place) current(repository string) *grant {
	if p.basic != nil {
		return p.basic
	}
	g, _ := p.tokens.Get(repository)
	if g != nil && !g.expires.IsZero() && !p.auth.client.now().Before(g.expires) {
		p.tokens.Remove(repository)
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
	if kept, _ := p.tokens.Peek(repository); kept == g {
		p.tokens.Remove(repository)
	}
}

// obtain returns a grant that meets a challenge. Concurrent requests for the same repository share one token.
func (p *place) obtain(ctx context.Context, repository string, c challenge, refused *grant) (*grant, error) {
	if c.scheme == schemeBasic || p.credential.RegistryToken != "" {
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
			f = &tokenFetch{done: make(chan struct{})}
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

func (p *place) run(ctx context.Context, f *tokenFetch, repository string, c challenge) {
	f.grant, f.err = p.fetchToken(ctx, repository, c)
	f.abandoned = f.err != nil && ctx.Err() != nil
	p.mu.Lock()
	delete(p.fetching, repository)
	if f.err == nil {
		p.tokens.Add(repository, f.grant)
	}
	p.mu.Unlock()
	close(f.done)
}

func (p *place) obtainBasic(c challenge) *grant {
	p.auth.shown.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.basic == nil {
		p.basic = &grant{header: p.credentialHeader(), challenge: c}
	}
	return p.basic
}

// credentialHeader returns the header that carries the credential itself.
func (p *place) credentialHeader() string {
	if token := p.credential.RegistryToken; token != "" {
		return "Bearer " + token
	}
	pair := p.credential.Username + ":" + p.credential.Password
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

// mayHaveExpired reports whether a refusal may mean that a grant is no longer valid.
func (p *place) mayHaveExpired(g *grant, repository string, status int, offered *challenge) bool {
	if p.credential.RegistryToken != "" {
		return false // The cache cannot get another one.
	}
	if g.challenge.scheme == schemeBasic {
		// A credential does not expire, but the upstream may ask for tokens now.
		return offered != nil && offered.scheme == schemeBearer
	}
	if status == http.StatusUnauthorized {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	met, ok := p.refusals.Get(refusal{repository, status})
	return !ok || p.auth.client.now().Sub(met) >= refusalLasts
}

func (p *place) noteRefusal(repository string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals.Add(refusal{repository, status}, p.auth.client.now())
}
