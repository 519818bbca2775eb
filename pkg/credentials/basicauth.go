// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"encoding/base64"
	"strings"
)

// ParseBasicAuth returns the user name and the password in the field auth of a Docker configuration, and false if it is
// invalid. As for the kubelet, the padding may be missing.
func ParseBasicAuth(auth string) (username, password string, ok bool) {
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(auth), "="))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(decoded), ":")
}
