// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"net/http"

	"github.com/larder-project/larder/pkg/credentials"
)

// CredentialSet is an immutable set of credentials.
type CredentialSet interface {
	Credentials
	// All returns each credential once.
	All() []credentials.Credential
	// Serves reports whether the set is the one for a repository, or for a scope of repositories. An upstream may have
	// several sets, each of which is checked with its own repositories.
	Serves(repository string) bool
}

// Check returns nil if the upstream accepts the credentials of candidate in place of those of active, which may be the
// same. The first test is that of docker login, a ping with its token. But a credential that may log in may not be
// allowed to pull, so candidate has to be able to repeat recent pulls, if active still is.
//
// Some upstreams do not ask for a credential on a ping, so that any password passes. There, requests that recently
// succeeded or were rejected are repeated: the credential is accepted if the upstream asks for it and one of them
// succeeds, and rejected if none does. If the upstream never asks for it, the result is unknown, and the error is
// NotChallenged.
func (c *Client) Check(ctx context.Context, candidate, active CredentialSet) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	open := unconfirmed{}
	for _, credential := range candidate.All() {
		ping := call{kind: kindPing, method: http.MethodGet, header: http.Header{}}
		challenged, err := c.callWith(ctx, ping, credential)
		// A registry that does not know this path has accepted the credential nevertheless.
		if err != nil && !Is(err, NotFound) {
			return err
		}
		if !challenged {
			open[credential] = c.fail(NotChallenged, 0, "has not asked for the credential yet")
		}
	}
	if err := c.repeatPulled(ctx, open, candidate, active); err != nil {
		return err
	}
	if err := c.repeatDenied(ctx, open, candidate); err != nil {
		return err
	}
	return open.result(candidate.All())
}

// repeatPulled repeats requests that succeeded recently.
func (c *Client) repeatPulled(ctx context.Context, open unconfirmed, candidate, active CredentialSet) error {
	for _, call := range c.pulled.latest(candidate.Serves) {
		_, checked, _ := candidate.For(ctx, call.repository)
		_, current, _ := active.For(ctx, call.repository)
		if checked == current && open[checked] == nil {
			continue
		}
		challenged, err := c.callWith(ctx, call, checked)
		if err != nil && !Is(err, Unauthorized) && !Is(err, NotFound) {
			return err
		}
		if err != nil && checked != current {
			if _, currentErr := c.callWith(ctx, call, current); currentErr == nil {
				return c.fail(Unauthorized, StatusOf(err), "accepts the credential for login, but not for pulling "+call.repository)
			}
		}
		open.record(checked, challenged, err)
	}
	return nil
}

// repeatDenied repeats requests that were rejected recently, for unconfirmed credentials only: many upstreams reject
// even a valid credential like that for a repository that does not exist.
func (c *Client) repeatDenied(ctx context.Context, open unconfirmed, candidate CredentialSet) error {
	for _, call := range c.denied.latest(candidate.Serves) {
		_, checked, _ := candidate.For(ctx, call.repository)
		if open[checked] == nil {
			continue
		}
		challenged, err := c.callWith(ctx, call, checked)
		if err != nil && !Is(err, Unauthorized) && !Is(err, NotFound) {
			return err
		}
		open.record(checked, challenged, err)
	}
	return nil
}

// callWith makes a call with a credential, and reports whether the upstream asked for it. Each has a session of its
// own: with a token of an earlier one, the upstream would have no reason to ask.
func (c *Client) callWith(ctx context.Context, call call, credential credentials.Credential) (challenged bool, err error) {
	s := c.openSession("", credential)
	s.check = true
	resp, err := c.try(ctx, call, s)
	if err == nil {
		_ = resp.Body.Close()
	}
	return s.auth.shown.Load(), err
}

// unconfirmed are the checked credentials that the upstream has not accepted yet, with the reason.
type unconfirmed map[credentials.Credential]error

// record takes the result of a call.
func (u unconfirmed) record(credential credentials.Credential, challenged bool, err error) {
	switch {
	case u[credential] == nil:
	case challenged && (err == nil || Is(err, NotFound)):
		delete(u, credential)
	case StatusOf(err) == http.StatusUnauthorized:
		// A 403 does not count: it means that the upstream recognizes the user.
		u[credential] = err
	}
}

// result returns a rejection, else NotChallenged, else nil.
func (u unconfirmed) result(all []credentials.Credential) error {
	var unknown error
	for _, credential := range all {
		if Is(u[credential], Unauthorized) {
			return u[credential]
		}
		if u[credential] != nil {
			unknown = u[credential]
		}
	}
	return unknown
}

// Retain drops all credentials but those of a set, with their tokens, for the repositories that the set serves.
// Requests in flight are not affected.
func (c *Client) Retain(set CredentialSet) {
	c.sessions.retain(set)
}
