// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// The methods in this file hide secrets from whatever prints, logs or encodes a value, with each verb of fmt.

// String returns a text with the user name only.
func (c Credential) String() string {
	switch {
	case c.RegistryToken != "":
		return "registry token"
	case c.IdentityToken != "":
		return fmt.Sprintf("identity token of user %q", c.Username)
	}
	return fmt.Sprintf("credential of user %q", c.Username)
}

// GoString returns String.
func (c Credential) GoString() string { return c.String() }

// Format prints String.
func (c Credential) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, c.String()) }

// MarshalText implements encoding.TextMarshaler, which YAML encoders use. It encodes String.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalJSON encodes String.
func (c Credential) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// LogValue logs String.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// String returns a text without secrets.
func (m Material) String() string {
	switch {
	case m.AWS != AWSKeys{}:
		return m.AWS.String()
	case m.WorkloadIdentity != WorkloadIdentity{}:
		return m.WorkloadIdentity.String()
	}
	return m.Credential.String()
}

// GoString returns String.
func (m Material) GoString() string { return m.String() }

// Format prints String.
func (m Material) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, m.String()) }

// MarshalText implements encoding.TextMarshaler, which YAML encoders use. It encodes String.
func (m Material) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalJSON encodes String.
func (m Material) MarshalJSON() ([]byte, error) { return json.Marshal(m.String()) }

// LogValue logs String.
func (m Material) LogValue() slog.Value { return slog.StringValue(m.String()) }

// String returns a constant. The ID of the access key is not secret, but owners may confuse the two keys.
func (k AWSKeys) String() string {
	return "AWS access key"
}

// GoString returns String.
func (k AWSKeys) GoString() string { return k.String() }

// Format prints String.
func (k AWSKeys) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.String()) }

// MarshalText implements encoding.TextMarshaler, which YAML encoders use. It encodes String.
func (k AWSKeys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalJSON encodes String.
func (k AWSKeys) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// LogValue logs String.
func (k AWSKeys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// String returns a text without the token.
func (w WorkloadIdentity) String() string {
	return fmt.Sprintf("workload identity of provider %q", string(w.Provider))
}

// GoString returns String.
func (w WorkloadIdentity) GoString() string { return w.String() }

// Format prints String.
func (w WorkloadIdentity) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, w.String()) }

// MarshalText implements encoding.TextMarshaler, which YAML encoders use. It encodes String.
func (w WorkloadIdentity) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// MarshalJSON encodes String.
func (w WorkloadIdentity) MarshalJSON() ([]byte, error) { return json.Marshal(w.String()) }

// LogValue logs String.
func (w WorkloadIdentity) LogValue() slog.Value { return slog.StringValue(w.String()) }
