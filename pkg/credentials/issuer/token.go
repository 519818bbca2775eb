// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// maxLifetime bounds lifetimes that services state, so that a nonsensical one does not overflow.
const maxLifetime = 7 * 24 * time.Hour

// seconds is a lifetime in a response.
type seconds float64

func (s seconds) fromNow() time.Time {
	return time.Now().Add(time.Duration(min(float64(s), maxLifetime.Seconds()) * float64(time.Second)))
}

// tokenExpiry returns the time in the claim exp of a JSON web token, and false if it has none. It does not verify the
// token, which others issued and verify.
func tokenExpiry(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}, false
	}
	var claims struct {
		Expires float64 `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Expires <= 0 || claims.Expires > float64(1<<40) {
		return time.Time{}, false
	}
	return time.Unix(int64(claims.Expires), 0), true
}

var errTokenExpired = errors.New("the token of the workload identity has expired, and Gardener has not replaced it yet")

// whileTokenValid returns the error of an exchange of a workload identity's token. A service also rejects a token that
// has expired, which is not the owner's fault and passes when Gardener replaces the token.
func whileTokenValid(err error, token string) error {
	var e *Error
	if !errors.As(err, &e) || !e.rejected {
		return err
	}
	if expires, ok := tokenExpiry(token); ok && time.Now().After(expires) {
		return &Error{Operation: e.Operation, Status: e.Status, err: errTokenExpired}
	}
	return err
}
