// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package ownersecret reads the Secrets in which the owners of Shoots hand over
// credentials. It is pure: admission and the controller read Secrets in their
// own ways and come to the same verdict here. The cache server, which knows
// files and not Secrets, does without it and without the Kubernetes API.
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

// maxCredentialLength is far above the length of keys and tokens. They travel
// in a header, for which HTTP servers have 8 to 16 KiB.
const maxCredentialLength = 16 << 10

// Validate returns everything that is wrong with a Secret that its owner
// begins to use. It is stricter than [Credential]: running caches keep the
// credentials that they have, even where HTTP does not allow them.
func Validate(secret *corev1.Secret, fldPath *field.Path) field.ErrorList {
	credential, allErrs := Credential(secret, fldPath)
	if len(allErrs) > 0 {
		return allErrs
	}
	if len(credential.Username)+len(credential.Password) > maxCredentialLength {
		allErrs = append(allErrs, invalidSecret(secret, fldPath,
			"has a user name and a password of more than %d bytes, which registries refuse", maxCredentialLength))
	}
	// JSON has line ends between its fields, and Google's registries take them.
	if credential.Username != JSONKeyUsername && strings.ContainsFunc(credential.Password, isControl) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath,
			"has a value that can't be used under the key %q: HTTP allows no control characters in a password, line ends included (create it with `echo -n` or `printf`)", credentials.PasswordKey))
	}
	return allErrs
}

// isControl is the rule for control characters of RFC 7617 and RFC 5234.
func isControl(r rune) bool {
	return r < ' ' || r == 0x7f
}

func invalidSecret(secret *corev1.Secret, fldPath *field.Path, format string, args ...any) *field.Error {
	return field.Invalid(fldPath, secret.Namespace+"/"+secret.Name, "the referenced Secret "+fmt.Sprintf(format, args...))
}

// Credential returns the credential that the Secret holds, or everything that
// is wrong with the Secret. The errors are reported for fldPath, the field that
// refers to the Secret, and never show what is in it, not even its keys.
func Credential(secret *corev1.Secret, fldPath *field.Path) (credentials.Credential, field.ErrorList) {
	var allErrs field.ErrorList
	invalid := func(format string, args ...any) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath, format, args...))
	}

	// gardenlet copies what the Secret holds at its next reconciliation. If it
	// could be edited, the caches would see an edit at an arbitrary later time.
	if !ptr.Deref(secret.Immutable, false) {
		invalid("must be immutable: set `immutable: true`; to change credentials, create a new Secret and refer to that")
	}
	// The API server makes no type Opaque.
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
			invalid("has a value that can't be used under the key %q: %s", credentials.UsernameKey, problem)
		}
	}
	if _, ok := secret.Data[credentials.PasswordKey]; ok {
		if problem := checkPassword(credential); problem != "" {
			invalid("has a value that can't be used under the key %q: %s", credentials.PasswordKey, problem)
		}
	}
	if len(allErrs) > 0 {
		return credentials.Credential{}, allErrs
	}
	return credential, nil
}

// checkUsername returns what is wrong with a user name. HTTP basic
// authentication (RFC 7617) ends it at the first colon and allows no control
// characters; white space is the line end of a careless `echo` more often than not.
func checkUsername(username string) string {
	switch {
	case strings.TrimSpace(username) == "":
		return "a user name must not be empty or blank"
	case strings.ContainsFunc(username, unicode.IsSpace):
		return "a user name must not contain white space, a line end included (create it with `echo -n` or `printf`)"
	case strings.ContainsFunc(username, unicode.IsControl):
		return "a user name must not contain control characters"
	case strings.Contains(username, ":"):
		return "a user name must not contain a colon"
	}
	return ""
}

// checkPassword returns what is wrong with a password. It can be any bytes,
// which HTTP carries in Base64.
func checkPassword(credential credentials.Credential) string {
	if strings.TrimSpace(credential.Password) == "" {
		return "a password must not be empty or blank"
	}
	if credential.Username == JSONKeyUsername {
		return checkServiceAccountKey(credential.Password)
	}
	return ""
}
