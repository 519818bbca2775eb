// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package credentials has the credential that a cache presents to its upstream,
// the files in which a cache server is given it, and the server's report about
// it. Which Secrets make a credential is decided in package ownersecret.
package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Credential is what a cache authenticates with at its upstream, byte for byte
// as in the Secret. However it is printed, logged or encoded, the password
// does not show; whoever needs it reads the field.
type Credential struct {
	Username string
	Password string
}

// Validate reports why HTTP basic authentication (RFC 7617) cannot carry the
// credential. The error reveals nothing of it.
func (c Credential) Validate() error {
	if c.Username == "" || c.Password == "" {
		return errors.New("a credential needs a user name and a password")
	}
	return ValidateUsername(c.Username)
}

// ValidateUsername reports why HTTP basic authentication cannot carry a user
// name. The error does not show it, since it may hold a password as well.
func ValidateUsername(name string) error {
	if strings.ContainsFunc(name, func(r rune) bool { return r == ':' || r < ' ' || r == 0x7f }) {
		return errors.New("a user name must not have colons or control characters")
	}
	return nil
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
