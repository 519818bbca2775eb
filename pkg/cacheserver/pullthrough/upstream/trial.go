// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/larder-project/larder/pkg/credentials"
)

// CredentialSet is a set of credentials that does not change.
type CredentialSet interface {
	Credentials
	// All returns each credential once.
	All() []credentials.Credential
}

// Try reports whether the upstream accepts credentials that are to take the place of others: it returns nil, or why
// not. That is what `docker login` asks, a ping with its token. But who may log in may not pull: what was pulled from
// lately has to be there with the new credentials too, if it still is with the old ones.
func (c *Client) Try(ctx context.Context, candidates, present CredentialSet) error {
	ctx, cancel := context.WithTimeout(ctx, smallAnswer)
	defer cancel()
	opened := map[credentials.Credential]*session{}
	defer func() {
		for _, s := range opened {
			c.limiter.forget(s)
		}
	}()
	try := func(credential credentials.Credential, call call) error {
		if opened[credential] == nil {
			opened[credential] = c.openSession(credential)
		}
		resp, err := c.try(ctx, call, opened[credential])
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}

	for _, credential := range candidates.All() {
		ping := call{kind: "ping", method: http.MethodGet, header: http.Header{}}
		// A registry that does not know this path has let the credential pass nevertheless.
		if err := try(credential, ping); err != nil && !Is(err, NotFound) {
			return err
		}
	}
	for _, call := range c.pulled.calls() {
		_, candidate, _ := candidates.For(ctx, call.repository)
		_, old, _ := present.For(ctx, call.repository)
		if candidate == old {
			continue
		}
		err := try(candidate, call)
		switch {
		case err == nil:
		case !Is(err, Unauthorized) && !Is(err, NotFound):
			return err
		case try(old, call) == nil:
			return c.mayNotPull(call.repository, err)
		}
	}
	return nil
}

func (c *Client) mayNotPull(repository string, err error) error {
	status := http.StatusForbidden
	if e, ok := err.(*Error); ok { //nolint:errorlint // It comes straight from try.
		status = e.Status
	}
	return c.fail(Unauthorized, status, "it lets the credential log in, but not pull from "+repository)
}

// Retain forgets all credentials but those of a set, with the tokens that they got. Requests that run are not affected.
func (c *Client) Retain(set CredentialSet) {
	c.sessions.retain(set.All())
}

// maxPulled bounds the repositories that are remembered as evidence.
const maxPulled = 8

// pulled remembers from which repositories the upstream delivered lately, and how to see whether it still does.
type pulled struct {
	mu   sync.Mutex
	last []call
}

func (p *pulled) note(made call) {
	if !strings.HasPrefix(made.path, "manifests/") {
		return
	}
	made = call{
		kind: "manifest_head", method: http.MethodHead, repository: made.repository, path: made.path,
		header: http.Header{"Accept": {manifestTypes}},
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.last) > 0 && p.last[0].repository == made.repository {
		p.last[0] = made
		return
	}
	p.last = slices.DeleteFunc(p.last, func(c call) bool { return c.repository == made.repository })
	p.last = slices.Insert(p.last[:min(len(p.last), maxPulled-1)], 0, made)
}

// calls returns the requests to make, the latest first.
func (p *pulled) calls() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.last)
}
