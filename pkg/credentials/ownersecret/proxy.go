// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/credentials"
)

// MaxProxyCredentialLength is the maximum length of the user name and the password for a proxy together, in bytes.
const MaxProxyCredentialLength = 4 << 10

// ProxyCredential returns the credential for a proxy in the Secret, or all errors. The errors are reported for fldPath,
// the field that references the Secret, and never show its content, not even its keys.
func ProxyCredential(secret *corev1.Secret, fldPath *field.Path) (credentials.Credential, field.ErrorList) {
	var allErrs field.ErrorList
	invalid := func(format string, args ...any) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath, format, args...))
	}
	credential := credentials.Credential{Username: string(secret.Data[credentials.UsernameKey]), Password: string(secret.Data[credentials.PasswordKey])}
	if _, ok := secret.Data[credentials.UsernameKey]; !ok {
		invalid("must have the key %q", credentials.UsernameKey)
	} else if problem := checkUsername(credential.Username); problem != "" {
		invalid("has an invalid value for the key %q: %s", credentials.UsernameKey, problem)
	}
	if _, ok := secret.Data[credentials.PasswordKey]; !ok {
		invalid("must have the key %q", credentials.PasswordKey)
	} else if strings.TrimSpace(credential.Password) == "" {
		invalid("has an invalid value for the key %q: a password must not be empty or blank", credentials.PasswordKey)
	}
	if len(credential.Username)+len(credential.Password) > MaxProxyCredentialLength {
		invalid("must have a user name and a password of at most %d bytes together", MaxProxyCredentialLength)
	}
	if len(allErrs) > 0 {
		return credentials.Credential{}, allErrs
	}
	return credential, nil
}

// ValidateProxyCredential validates a Secret that a Shoot starts to use. It is stricter than [ProxyCredential]: running
// caches keep their credentials.
func ValidateProxyCredential(secret *corev1.Secret, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	if !ptr.Deref(secret.Immutable, false) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath,
			"must be immutable: set `immutable: true`; to change the credential, create a new Secret and reference it"))
	}
	// The API server defaults an unset type to Opaque.
	if !slices.Contains([]corev1.SecretType{corev1.SecretTypeOpaque, corev1.SecretTypeBasicAuth, ""}, secret.Type) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath, "must be of type %s or %s", corev1.SecretTypeOpaque, corev1.SecretTypeBasicAuth))
	}
	for key := range secret.Data {
		if key != credentials.UsernameKey && key != credentials.PasswordKey {
			allErrs = append(allErrs, invalidSecret(secret, fldPath,
				"must have only the keys %q and %q, remove the others", credentials.UsernameKey, credentials.PasswordKey))
			break
		}
	}
	credential, errs := ProxyCredential(secret, fldPath)
	if strings.ContainsFunc(credential.Password, isControl) {
		errs = append(errs, invalidSecret(secret, fldPath,
			"has an invalid value for the key %q: HTTP does not allow control characters in a password, including line breaks (create it with `printf` or `echo -n`)", credentials.PasswordKey))
	}
	return append(allErrs, errs...)
}
