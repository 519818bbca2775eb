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

// maxTokenTime bounds the time in a token, in seconds, so that a nonsensical one does not overflow.
const maxTokenTime = 1 << 40

// TokenExpiry returns when a JSON web token expires, and false if it does not show that. It does not verify the token,
// which others issued and verify.
func TokenExpiry(token string) (time.Time, bool) {
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
	if json.Unmarshal(payload, &claims) != nil || claims.Expires <= 0 || claims.Expires > maxTokenTime {
		return time.Time{}, false
	}
	return time.Unix(int64(claims.Expires), 0), true
}
