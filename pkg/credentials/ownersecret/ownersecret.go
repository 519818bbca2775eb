// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package ownersecret extracts credentials from the Secrets of Shoot owners. It is pure and shared by admission and the
// controller, which read Secrets in their own ways. The cache server reads files instead of Secrets and links neither
// this package nor the Kubernetes API.
package ownersecret

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/credentials"
)

// MaxLength is the maximum length of a user name and a password together, in bytes: far above the length of keys and tokens. A credential is sent in a header, which HTTP servers
// limit to 8 to 16 KiB.
const MaxLength = 16 << 10

// Validate validates a Secret that a Shoot starts to use. It is stricter than [Credential]: running caches keep their
// credentials, even if HTTP does not allow them.
func Validate(secret *corev1.Secret, fldPath *field.Path) field.ErrorList {
	credential, allErrs := Credential(secret, fldPath)
	if len(allErrs) > 0 {
		return allErrs
	}
	if len(credential.Username)+len(credential.Password) > MaxLength {
		allErrs = append(allErrs, invalidSecret(secret, fldPath,
			"has a user name and a password of more than %d bytes, which registries refuse", MaxLength))
	}
	// A JSON key has line breaks between its fields, which Google's registries accept.
	if credential.Username != JSONKeyUsername && strings.ContainsFunc(credential.Password, isControl) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath,
			"has an invalid value for the key %q: HTTP does not allow control characters in a password, including line breaks (create it with `printf` or `echo -n`)", credentials.PasswordKey))
	}
	return allErrs
}

// isControl reports whether RFC 7617 forbids a character as a control character (RFC 5234).
func isControl(r rune) bool {
	return r < ' ' || r == 0x7f
}

func invalidSecret(secret *corev1.Secret, fldPath *field.Path, format string, args ...any) *field.Error {
	return field.Invalid(fldPath, secret.Namespace+"/"+secret.Name, "the referenced Secret "+fmt.Sprintf(format, args...))
}

// Credential returns the credential in the Secret, or all errors. The errors are reported for fldPath, the field that
// references the Secret, and never show its content, not even its keys.
func Credential(secret *corev1.Secret, fldPath *field.Path) (credentials.Credential, field.ErrorList) {
	var allErrs field.ErrorList
	invalid := func(format string, args ...any) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath, format, args...))
	}

	// gardenlet copies the Secret at its next reconciliation. If it were mutable, an edit would reach the caches at an
	// arbitrary later time.
	if !ptr.Deref(secret.Immutable, false) {
		invalid("must be immutable: set `immutable: true`; to change the credential, create a new Secret and reference it")
	}
	// The API server defaults an unset type to Opaque.
	if !slices.Contains([]corev1.SecretType{corev1.SecretTypeOpaque, corev1.SecretTypeBasicAuth, ""}, secret.Type) {
		invalid("must be of type %s or %s", corev1.SecretTypeOpaque, corev1.SecretTypeBasicAuth)
	}
	others := len(secret.Data)
	for _, key := range []string{credentials.UsernameKey, credentials.PasswordKey} {
		if _, ok := secret.Data[key]; ok {
			others--
		} else {
			invalid("must have the key %q", key)
		}
	}
	if others > 0 {
		invalid("must have only the keys %q and %q, remove the others", credentials.UsernameKey, credentials.PasswordKey)
	}

	credential := credentials.Credential{Username: string(secret.Data[credentials.UsernameKey]), Password: string(secret.Data[credentials.PasswordKey])}
	if _, ok := secret.Data[credentials.UsernameKey]; ok {
		if problem := checkUsername(credential.Username); problem != "" {
			invalid("has an invalid value for the key %q: %s", credentials.UsernameKey, problem)
		}
	}
	if _, ok := secret.Data[credentials.PasswordKey]; ok {
		if problem := checkPassword(credential); problem != "" {
			invalid("has an invalid value for the key %q: %s", credentials.PasswordKey, problem)
		}
	}
	if len(allErrs) > 0 {
		return credentials.Credential{}, allErrs
	}
	return credential, nil
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
func checkPassword(credential credentials.Credential) string {
	if strings.TrimSpace(credential.Password) == "" {
		return "a password must not be empty or blank"
	}
	if credential.Username == JSONKeyUsername {
		return checkServiceAccountKey(credential.Password)
	}
	return ""
}
