// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

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

// Try reports whether the upstream accepts credentials that are to take the place of others, or the present ones still:
// it returns nil, or why not. That is what `docker login` asks, a ping with its token. But who may log in may not pull:
// what was pulled from lately has to be there with the new credentials too, if it still is with the old ones.
//
// Some upstreams answer a ping without asking who it is. Any password passes there, so what was pulled or refused lately
// is asked for once more: the credential is good if the upstream lets it pass where it asks for one, and refused if it
// passes nowhere. Otherwise nothing can be said, and the error is Unasked.
func (c *Client) Try(ctx context.Context, candidates, present CredentialSet) error {
	ctx, cancel := context.WithTimeout(ctx, smallAnswer)
	defer cancel()
	open := doubts{}
	for _, credential := range candidates.All() {
		ping := call{kind: kindPing, method: http.MethodGet, header: http.Header{}}
		asked, err := c.ask(ctx, ping, credential)
		// A registry that does not know this path has let the credential pass nevertheless.
		if err != nil && !Is(err, NotFound) {
			return err
		}
		if !asked {
			open[credential] = c.fail(Unasked, 0, "it has not asked for the credential yet")
		}
	}
	if err := c.replayPulled(ctx, open, candidates, present); err != nil {
		return err
	}
	if err := c.replayDenied(ctx, open, candidates); err != nil {
		return err
	}
	return open.verdict(candidates.All())
}

// replayPulled asks for what was delivered lately.
func (c *Client) replayPulled(ctx context.Context, open doubts, candidates, present CredentialSet) error {
	for _, call := range c.pulled.calls() {
		_, candidate, _ := candidates.For(ctx, call.repository)
		_, old, _ := present.For(ctx, call.repository)
		if candidate == old && open[candidate] == nil {
			continue
		}
		asked, err := c.ask(ctx, call, candidate)
		if err != nil && !Is(err, Unauthorized) && !Is(err, NotFound) {
			return err
		}
		if err != nil && candidate != old {
			if _, oldErr := c.ask(ctx, call, old); oldErr == nil {
				return c.mayNotPull(call.repository, err)
			}
		}
		open.settle(candidate, asked, err)
	}
	return nil
}

// replayDenied asks for what was refused lately, as long as there is doubt. Where a login has told good from bad, it says
// nothing: many upstreams answer a good credential like that for a repository that does not exist.
func (c *Client) replayDenied(ctx context.Context, open doubts, candidates CredentialSet) error {
	for _, call := range c.denied.calls() {
		_, candidate, _ := candidates.For(ctx, call.repository)
		if open[candidate] == nil {
			continue
		}
		asked, err := c.ask(ctx, call, candidate)
		if err != nil && !Is(err, Unauthorized) && !Is(err, NotFound) {
			return err
		}
		open.settle(candidate, asked, err)
	}
	return nil
}

// ask makes a call, and says whether the upstream wanted to see the credential. Each has a session of its own: with a
// token of the one before, the upstream would have no reason to ask.
func (c *Client) ask(ctx context.Context, call call, credential credentials.Credential) (asked bool, err error) {
	s := c.openSession("", credential)
	s.trial = true
	defer c.limiter.forget(s)
	resp, err := c.try(ctx, call, s)
	if err == nil {
		_ = resp.Body.Close()
	}
	return s.auth.shown.Load(), err
}

// doubts are the credentials on trial that have not passed anywhere, and why.
type doubts map[credentials.Credential]error

// settle takes the outcome of a call into account.
func (d doubts) settle(credential credentials.Credential, asked bool, err error) {
	switch {
	case d[credential] == nil:
	case asked && (err == nil || Is(err, NotFound)):
		delete(d, credential)
	case StatusOf(err) == http.StatusUnauthorized:
		// With 403, the upstream knows who it is.
		d[credential] = err
	}
}

// verdict prefers what is certain.
func (d doubts) verdict(all []credentials.Credential) error {
	var unasked error
	for _, credential := range all {
		if Is(d[credential], Unauthorized) {
			return d[credential]
		}
		if d[credential] != nil {
			unasked = d[credential]
		}
	}
	return unasked
}

func (c *Client) mayNotPull(repository string, err error) error {
	return c.fail(Unauthorized, StatusOf(err), "it lets the credential log in, but not pull from "+repository)
}

// Retain forgets all credentials but those of a set, with the tokens that they got. Requests that run are not affected.
func (c *Client) Retain(set CredentialSet) {
	c.sessions.retain(set.All())
}

// maxEvidence bounds the repositories that are remembered as evidence.
const maxEvidence = 8

// evidence remembers for which repositories the upstream gave the same answer lately, and how to ask it again.
type evidence struct {
	mu   sync.Mutex
	last []call
}

// note remembers a call for a manifest or a blob, as one that brings no content.
func (e *evidence) note(made call) {
	kind, header := kindBlob+headSuffix, http.Header{}
	if strings.HasPrefix(made.path, manifests) {
		kind, header = kindManifest+headSuffix, http.Header{"Accept": {manifestTypes}}
	}
	made = call{kind: kind, method: http.MethodHead, repository: made.repository, path: made.path, header: header}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.last) > 0 && e.last[0].repository == made.repository {
		e.last[0] = made
		return
	}
	e.remove(made.repository)
	e.last = slices.Insert(e.last[:min(len(e.last), maxEvidence-1)], 0, made)
}

// forget drops what is known of a repository.
func (e *evidence) forget(repository string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.remove(repository)
}

func (e *evidence) remove(repository string) {
	e.last = slices.DeleteFunc(e.last, func(c call) bool { return c.repository == repository })
}

// calls returns the requests to make, the latest first.
func (e *evidence) calls() []call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.last)
}
