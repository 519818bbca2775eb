// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package credentials defines what a cache authenticates with at its upstream: the credential that signs a request, the
// material that an owner provides for it, the files that a cache server reads both from, and the server's report about
// it. Package ownersecret validates the Secrets that contain material.
package credentials

import (
	"errors"
	"strings"
)

// Credential signs requests to an upstream. It has a user name and a password, byte for byte as in the Secret, or a
// token. Printing, logging or encoding it never shows the password or a token; only the fields do.
type Credential struct {
	Username string
	Password string
	// IdentityToken is an OAuth 2 refresh token that the token server of the upstream exchanges for access tokens. It
	// takes the place of the password.
	IdentityToken string
	// RegistryToken is a bearer token that requests carry as it is. It takes the place of the user name and the
	// password.
	RegistryToken string
}

// Validate returns an error if HTTP cannot carry the credential: user name and password in the header of basic
// authentication (RFC 7617), tokens in a form or as a bearer token (RFC 6750). The error does not quote it.
func (c Credential) Validate() error {
	switch {
	case c.RegistryToken != "" && c.IdentityToken != "":
		return errors.New("credential has both an identity token and a registry token")
	case c.RegistryToken != "" && (c.Username != "" || c.Password != ""):
		return errors.New("credential has a registry token beside a user name or a password")
	case c.IdentityToken != "" && c.Password != "":
		return errors.New("credential has both an identity token and a password")
	case c.RegistryToken != "" || c.IdentityToken != "":
		if err := ValidateToken(c.RegistryToken + c.IdentityToken); err != nil {
			return err
		}
	case c.Username == "" || c.Password == "":
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

// ValidateToken returns an error if HTTP cannot carry a token. The error does not quote it.
func ValidateToken(token string) error {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("a token must have printable ASCII characters only, without white space")
	}
	return nil
}

// AzureUsername is the user name for which registries of Azure take an identity token as the password.
const AzureUsername = "00000000-0000-0000-0000-000000000000"

// Basic returns the credential as a user name and a password, for clients that know no tokens, and false if it cannot be
// presented so.
func (c Credential) Basic(isAzure bool) (username, password string, ok bool) {
	if isAzure && c.IdentityToken != "" {
		return AzureUsername, c.IdentityToken, true
	}
	return c.Username, c.Password, c.Username != "" && c.Password != ""
}
