// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// decision says whether a request passes, and why. The zero value lets no request pass.
type decision int

const (
	// unavailable means that the upstream did not decide.
	unavailable decision = iota
	// denied means that the upstream refuses the object to the client.
	denied
	// missing means that the upstream does not have the object, or hides it.
	missing
	// limited means that the upstream, or the cache on its behalf, limits the rate of the client's requests.
	limited
	// challenged means that the client has to present a credential.
	challenged
	// unsupported means that a cache does not serve such requests.
	unsupported

	// The decisions from here on let a request pass: anyone may read the object, or the client has a grant, an account
	// or the certificate of a node.
	byAnyone
	byGrant
	byAccount
	byNode
)

// Results are the values of decisions in metrics.
var Results = []string{
	"unavailable", "denied", "missing", "limited", "challenged", "unsupported", "public", "granted", "account", "node",
}

// String returns the value of the decision in metrics.
func (d decision) String() string { return Results[d] }

func (d decision) passes() bool { return d >= byAnyone }

// result is what the Gate decides about a request.
type result struct {
	pass
	decision decision
	// cause is why a decision does not let the request pass, if the upstream was asked for it.
	cause error
}

// retryAfter returns when to try again, 0 if unknown.
func (r result) retryAfter() time.Duration { return retryAfter(r.cause) }

// guessesError means that the upstream has refused too much lately: guesses, or questions with a known credential.
type guessesError struct {
	retryAfter time.Duration
	known      bool
}

func (e guessesError) Error() string {
	if e.known {
		return "too many refused requests with the credential"
	}
	return "too many refused credentials"
}

// decisionOf returns what the response of the upstream to a client means. Only the statuses with which registries
// refuse a credential or hide an object do that; a response of another kind proves nothing, and neither does a page of
// a portal.
func decisionOf(c client, err error) decision {
	var guesses guessesError
	switch {
	case err == nil && c.isAnonymous():
		return byAnyone
	case err == nil && c.isCache:
		return byAccount
	case err == nil:
		return byGrant
	case remote.Is(err, remote.NotFound):
		return missing
	case remote.Is(err, remote.RateLimited), errors.As(err, &guesses):
		return limited
	case remote.Is(err, remote.Unauthorized):
		return denied
	}
	return unavailable
}

func retryAfter(err error) time.Duration {
	var guesses guessesError
	if errors.As(err, &guesses) {
		return guesses.retryAfter
	}
	var e *remote.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
