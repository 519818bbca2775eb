// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"errors"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
)

// maxLifetime bounds lifetimes that services state, so that a nonsensical one does not overflow.
const maxLifetime = 7 * 24 * time.Hour

// seconds is a lifetime in a response.
type seconds float64

func (s seconds) fromNow() time.Time {
	return time.Now().Add(time.Duration(min(float64(s), maxLifetime.Seconds()) * float64(time.Second)))
}

var errTokenExpired = errors.New("the token of the workload identity has expired, and Gardener has not replaced it yet")

// whileTokenValid returns the error of an exchange of a workload identity's token. A service also rejects a token that
// has expired, which is not the owner's fault and passes when Gardener replaces the token.
func whileTokenValid(err error, token string) error {
	var e *Error
	if !errors.As(err, &e) || !e.rejected {
		return err
	}
	if expires, ok := credentials.TokenExpiry(token); ok && time.Now().After(expires) {
		return &Error{Operation: e.Operation, Status: e.Status, err: errTokenExpired}
	}
	return err
}
