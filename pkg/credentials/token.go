// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// The claims of a JSON web token that are times.
const (
	ClaimExpires = "exp"
	ClaimIssued  = "iat"
)

// maxTokenTime bounds the time in a token, in seconds, so that a nonsensical one does not overflow.
const maxTokenTime = 1 << 40

// TokenTime returns the time in a claim of a JSON web token, and false if it has none. It does not verify the token,
// which others issued and verify.
func TokenTime(token, claim string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}, false
	}
	var claims map[string]json.RawMessage
	var seconds float64
	if json.Unmarshal(payload, &claims) != nil || json.Unmarshal(claims[claim], &seconds) != nil || seconds <= 0 || seconds > maxTokenTime {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}
