// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Reason is why a request to the upstream failed.
type Reason int

const (
	// Unavailable means that a later request may succeed: the upstream is down, too slow, or broken.
	Unavailable Reason = iota
	// NotFound means that the object does not exist, as far as the upstream reveals.
	NotFound
	// Unauthorized means that the upstream rejected the credential, or that there is none.
	Unauthorized
	// RateLimited means that a rate limit applies to the credential.
	RateLimited
	// Invalid means that the response breaks the protocol or exceeds a limit.
	Invalid
	// NotChallenged means that the upstream did not ask for the credential, and so neither accepted nor rejected it.
	// Only Check returns it.
	NotChallenged
)

// String returns the value of the reason in metrics.
func (r Reason) String() string {
	switch r {
	case Unavailable:
		return "unavailable"
	case NotFound:
		return "not_found"
	case Unauthorized:
		return "unauthorized"
	case RateLimited:
		return "rate_limited"
	case Invalid:
		return "invalid"
	case NotChallenged:
		return "not_challenged"
	}
	return "unknown"
}

// Error is the only kind of error that a Client returns, apart from those of its caller's context.
type Error struct {
	Reason Reason
	// Status is the HTTP status of the response, 0 if there was none.
	Status int
	// RetryAfter is the time until a rate limit ends, 0 unless the reason is RateLimited.
	RetryAfter time.Duration
	// Patience is how much longer the body of a response would have been waited for if it could not be resumed.
	Patience time.Duration
	// Host is the upstream.
	Host string
	// Cause describes the problem. It is safe to show to anyone.
	Cause string
	// Login means that the response was about the credential itself: it was that of the token service, or of a request
	// that carried the user name and the password.
	Login bool
	// LoggedIn means that the object is missing although the upstream, or its token service, accepted the credential.
	// Only Authorize sets it.
	LoggedIn bool
	// brokeOff means that the upstream closed the connection instead of sending a response.
	brokeOff bool
	// local means that the cache refused to make the request, or lacked what it takes: memory, descriptors or ports.
	local bool
}

func (e *Error) Error() string {
	return fmt.Sprintf("upstream %s: %s", e.Host, e.Cause)
}

// Temporary reports whether the same request may succeed later, after RetryAfter at the earliest.
func (e *Error) Temporary() bool {
	return e.Reason == Unavailable || e.Reason == RateLimited
}

// Responded reports whether the upstream sent a response. If not, the request has usually used up a timeout already.
func (e *Error) Responded() bool {
	return e.Status != 0
}

// IsOutage reports whether err wraps an Error that means that the upstream does not work: it did not respond, or
// responded with a server error. Any other response that does not help, such as a web page, is no outage.
func IsOutage(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == Unavailable && !e.local && (e.Status == 0 || e.Status >= http.StatusInternalServerError)
}

// IsLogin reports whether err wraps an Error with the given reason that is about the credential itself.
func IsLogin(err error, reason Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Login && e.Reason == reason
}

// ReasonOf returns the reason of the Error that err wraps. It returns false if there is none: the failure is local.
func ReasonOf(err error) (Reason, bool) {
	var e *Error
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Reason, true
}

// Is reports whether err wraps an Error with the given reason.
func Is(err error, reason Reason) bool {
	found, ok := ReasonOf(err)
	return ok && found == reason
}

// StatusOf returns the HTTP status of the Error that err wraps, 0 if there is none.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// at adds the name of the server that an error is about, for servers other than the upstream.
func at(server string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	named := *e
	named.Cause = server + ": " + e.Cause
	return &named
}
