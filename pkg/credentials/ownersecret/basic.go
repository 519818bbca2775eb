// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"cmp"
	"strings"
	"unicode"

	"github.com/larder-project/larder/pkg/credentials"
)

// basicForm is a user name and a password.
type basicForm struct{ data map[string][]byte }

func (f basicForm) extract(r *report, use Use) credentials.Material {
	usernameKey := cmp.Or(use.UsernameKey, credentials.UsernameKey)
	passwordKey := cmp.Or(use.PasswordKey, credentials.PasswordKey)
	username, hasUsername := f.data[usernameKey]
	password, hasPassword := f.data[passwordKey]
	others := len(f.data)
	for _, key := range []string{usernameKey, passwordKey} {
		if _, ok := f.data[key]; ok {
			others--
		} else {
			r.add("must have the key %q", key)
		}
	}
	// An owner who names the keys may use a Secret that another tool maintains, with other keys beside them.
	if others > 0 && !use.hasKeys() {
		r.add("must have only the keys %q and %q, remove the others", usernameKey, passwordKey)
	}

	c := credentials.Credential{Username: string(username), Password: string(password)}
	if hasUsername {
		if problem := checkUsername(c.Username); problem != "" {
			r.invalidKey(usernameKey, problem)
		}
	}
	if hasPassword {
		if problem := checkPassword(c); problem != "" {
			r.invalidKey(passwordKey, problem)
		}
	}
	return credentials.Static(c)
}

// checkUsername returns the problem with a user name. It refuses white space, which is usually the line break of an
// `echo`.
func checkUsername(username string) string {
	switch {
	case strings.TrimSpace(username) == "":
		return "a user name must not be empty or blank"
	case strings.ContainsFunc(username, unicode.IsSpace):
		return "a user name must not contain white space, including line breaks (create it with `printf` or `echo -n`)"
	}
	if err := credentials.ValidateUsername(username); err != nil {
		return err.Error()
	}
	return ""
}

// checkPassword returns the problem with a password. A password may have any bytes, since HTTP carries it in Base64.
func checkPassword(c credentials.Credential) string {
	if strings.TrimSpace(c.Password) == "" {
		return "a password must not be empty or blank"
	}
	if c.Username == JSONKeyUsername {
		return checkServiceAccountKey(JSONKeyUsername, c.Password)
	}
	return ""
}

// checkStrictly reports what HTTP does not allow in a credential, and what registries refuse.
func checkStrictly(r *report, c credentials.Credential) {
	if len(c.Username)+len(c.Password) > MaxLength {
		r.add("has a user name and a password of more than %d bytes, which registries refuse", MaxLength)
		return
	}
	if len(c.IdentityToken) > MaxLength || len(c.RegistryToken) > MaxLength {
		r.add("has a token of more than %d bytes, which registries refuse", MaxLength)
	}
	// A JSON key has line breaks between its fields, which Google's registries accept.
	if c.Username != JSONKeyUsername && strings.ContainsFunc(c.Password, isControl) {
		r.add("has an invalid password: HTTP does not allow control characters in a password, including line breaks (create it with `printf` or `echo -n`)")
		return
	}
	if c.Username == JSONKeyBase64Username {
		if problem := checkEncodedServiceAccountKey(c.Password); problem != "" {
			r.add("has an invalid password: %s", problem)
		}
	}
}

// isControl reports whether RFC 7617 forbids a character as a control character (RFC 5234).
func isControl(r rune) bool {
	return r < ' ' || r == 0x7f
}
