// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package credentials defines the credential that a cache presents to its upstream, the files that a cache server reads
// it from, and the server's report about it. Package ownersecret validates the Secrets that contain credentials.
package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Credential is a user name and a password for an upstream, byte for byte as in the Secret. Printing, logging or
// encoding it never shows the password; only the field does.
type Credential struct {
	Username string
	Password string
}

// Validate returns an error if HTTP basic authentication (RFC 7617) cannot carry the credential. The error does not
// quote it.
func (c Credential) Validate() error {
	if c.Username == "" || c.Password == "" {
		return errors.New("a credential needs a user name and a password")
	}
	return ValidateUsername(c.Username)
}

// ValidateUsername returns an error if HTTP basic authentication cannot carry a user name. The error does not quote it,
// since it may contain a password by mistake.
func ValidateUsername(name string) error {
	if strings.ContainsFunc(name, func(r rune) bool { return r == ':' || r < ' ' || r == 0x7f }) {
		return errors.New("a user name must not have colons or control characters")
	}
	return nil
}

// String returns a text with the user name only.
func (c Credential) String() string {
	return fmt.Sprintf("credential of user %q", c.Username)
}

// GoString returns String.
func (c Credential) GoString() string {
	return c.String()
}

// Format prints String, whatever the verb: some of fmt's verbs would otherwise print the fields.
func (c Credential) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, c.String())
}

// MarshalText implements encoding.TextMarshaler, which YAML encoders use. It encodes String.
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
