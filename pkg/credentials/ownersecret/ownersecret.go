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
	"maps"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/credentials"
)

// Credential returns the credential that the Secret holds, or everything that
// is wrong with the Secret. The errors are reported for fldPath, the field that
// refers to the Secret, and never show what is in it.
func Credential(secret *corev1.Secret, fldPath *field.Path) (credentials.Credential, field.ErrorList) {
	name := secret.Namespace + "/" + secret.Name
	var allErrs field.ErrorList
	invalid := func(format string, args ...any) {
		allErrs = append(allErrs, field.Invalid(fldPath, name, "the referenced Secret "+fmt.Sprintf(format, args...)))
	}

	// gardenlet copies what the Secret holds at its next reconciliation. If it
	// could be edited, the caches would see an edit at an arbitrary later time.
	if !ptr.Deref(secret.Immutable, false) {
		invalid("must be immutable: set `immutable: true`; to change credentials, create a new Secret and refer to that")
	}
	// The API server makes no type Opaque.
	if secret.Type != corev1.SecretTypeOpaque && secret.Type != "" {
		invalid("must be of type %s, it is of type %q", corev1.SecretTypeOpaque, secret.Type)
	}
	for _, key := range []string{credentials.UsernameKey, credentials.PasswordKey} {
		if _, ok := secret.Data[key]; !ok {
			invalid("must have the key %q", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
		if key != credentials.UsernameKey && key != credentials.PasswordKey {
			invalid("must have only the keys %q and %q, remove %q", credentials.UsernameKey, credentials.PasswordKey, key)
		}
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

// checkPassword returns what is wrong with a password. It can be any bytes:
// HTTP carries them in Base64.
func checkPassword(credential credentials.Credential) string {
	if strings.TrimSpace(credential.Password) == "" {
		return "a password must not be empty or blank"
	}
	if credential.Username == JSONKeyUsername {
		return checkServiceAccountKey(credential.Password)
	}
	return ""
}
