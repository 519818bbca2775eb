// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package credentials turns the bytes of a Secret into typed upstream
// credentials. It is pure: admission, the controller and the cache server read
// Secrets in their own ways and come to the same verdict here.
package credentials

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Credential is what a cache authenticates with at its upstream, byte for byte
// as in the Secret. However it is printed, logged or encoded, the password
// does not show; whoever needs it reads the field.
type Credential struct {
	Username string
	Password string
}

// String says whose credential it is.
func (c Credential) String() string {
	return fmt.Sprintf("credential of user %q", c.Username)
}

// GoString is String.
func (c Credential) GoString() string {
	return c.String()
}

// Format prints String, whatever the verb: some of fmt's verbs would otherwise print the fields.
func (c Credential) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, c.String())
}

// MarshalText encodes String. YAML encoders use it, too.
func (c Credential) MarshalText() ([]byte, error) {
	return []byte(c.String()), nil
}

// MarshalJSON encodes String.
func (c Credential) MarshalJSON() ([]byte, error) {
	return json.Marshal(c.String())
}

// LogValue logs String.
func (c Credential) LogValue() slog.Value {
	return slog.StringValue(c.String())
}
