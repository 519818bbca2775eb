// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

const (
	// MaxClientCertificateLength is the maximum length of a client certificate with its chain, about 10 certificates.
	MaxClientCertificateLength = 16 << 10
	// MaxClientKeyLength is the maximum length of the key of a client certificate, in PEM: that of an RSA key of 8,192 bits.
	// Longer keys take long to parse.
	MaxClientKeyLength = 8 << 10

	// ExpiresSoon is how long before its expiry the owner of a client certificate is warned.
	ExpiresSoon = 30 * 24 * time.Hour
)

// KeyPair is a certificate with its chain, and its private key, in PEM.
type KeyPair struct {
	Certificate, Key []byte
}

// ClientCertificate returns the client certificate in the Secret, or all errors. The errors are reported for fldPath, the
// field that references the Secret, and never show its content, not even its keys.
func ClientCertificate(secret *corev1.Secret, fldPath *field.Path) (KeyPair, field.ErrorList) {
	pair, _, errs := parseClientCertificate(secret, fldPath)
	return pair, errs
}

// parseClientCertificate also returns the first certificate. Parsing a key takes up to ten milliseconds, so do it once.
func parseClientCertificate(secret *corev1.Secret, fldPath *field.Path) (KeyPair, *x509.Certificate, field.ErrorList) {
	pair := KeyPair{Certificate: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey]}
	var allErrs field.ErrorList
	for _, part := range []struct {
		key     string
		content []byte
		limit   int
	}{
		{corev1.TLSCertKey, pair.Certificate, MaxClientCertificateLength},
		{corev1.TLSPrivateKeyKey, pair.Key, MaxClientKeyLength},
	} {
		switch {
		case len(part.content) == 0:
			allErrs = append(allErrs, invalidSecret(secret, fldPath, "must have the key %q", part.key))
		case len(part.content) > part.limit:
			allErrs = append(allErrs, invalidSecret(secret, fldPath, "has an invalid value for the key %q: it must have at most %d bytes", part.key, part.limit))
		}
	}
	if len(allErrs) > 0 {
		return KeyPair{}, nil, allErrs
	}
	leaf, err := parseKeyPair(pair, secret, fldPath)
	if err != nil {
		return KeyPair{}, nil, field.ErrorList{err}
	}
	return pair, leaf, nil
}

// ValidateClientCertificate validates a Secret that a Shoot starts to use. It is stricter than [ClientCertificate]:
// running caches keep their certificates, even if they have expired.
func ValidateClientCertificate(secret *corev1.Secret, now time.Time, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	if !ptr.Deref(secret.Immutable, false) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath,
			"must be immutable: set `immutable: true`; to change the client certificate, create a new Secret and reference it"))
	}
	if secret.Type != corev1.SecretTypeTLS {
		allErrs = append(allErrs, invalidSecret(secret, fldPath, "must be of type %s", corev1.SecretTypeTLS))
	}
	for key := range secret.Data {
		if key != corev1.TLSCertKey && key != corev1.TLSPrivateKeyKey {
			allErrs = append(allErrs, invalidSecret(secret, fldPath,
				"must have only the keys %q and %q, remove the others", corev1.TLSCertKey, corev1.TLSPrivateKeyKey))
			break
		}
	}
	pair, leaf, errs := parseClientCertificate(secret, fldPath)
	if len(errs) > 0 {
		return append(allErrs, errs...)
	}
	invalid := func(format string, args ...any) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath, "has an invalid value for the key %q: %s", corev1.TLSCertKey, fmt.Sprintf(format, args...)))
	}
	if now.After(leaf.NotAfter) {
		invalid("the certificate expired on %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	if usages := leaf.ExtKeyUsage; len(usages) > 0 && !slices.Contains(usages, x509.ExtKeyUsageClientAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		invalid("the certificate is not for clients: its extended key usage must include client authentication")
	}
	if !onlyCertificates(pair.Certificate) {
		invalid("it must contain only blocks of type %s, no private keys", certificateType)
	}
	return allErrs
}

// ClientCertificateExpiry returns when the client certificate in a valid Secret expires, and whether that is soon.
func ClientCertificateExpiry(secret *corev1.Secret, now time.Time) (time.Time, bool) {
	leaf := firstCertificate(secret.Data[corev1.TLSCertKey])
	if leaf == nil {
		return time.Time{}, false
	}
	left := leaf.NotAfter.Sub(now)
	return leaf.NotAfter, left > 0 && left < ExpiresSoon
}

// parseKeyPair returns the first certificate of a pair. Errors of the parser may quote the pair.
func parseKeyPair(pair KeyPair, secret *corev1.Secret, fldPath *field.Path) (*x509.Certificate, *field.Error) {
	parsed, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	switch {
	case err == nil:
		return parsed.Leaf, nil
	case firstCertificate(pair.Certificate) == nil:
		return nil, invalidSecret(secret, fldPath, "has an invalid value for the key %q: it must contain the certificate in PEM, followed by its chain", corev1.TLSCertKey)
	case bytes.Contains(pair.Key, []byte("ENCRYPTED")):
		return nil, invalidSecret(secret, fldPath, "has an invalid value for the key %q: the private key is encrypted; store it without a passphrase", corev1.TLSPrivateKeyKey)
	}
	return nil, invalidSecret(secret, fldPath, "has an invalid value for the key %q: it must contain the private key of the first certificate of %q, in PEM", corev1.TLSPrivateKeyKey, corev1.TLSCertKey)
}

// firstCertificate returns the first certificate of a chain, nil if it cannot be parsed.
func firstCertificate(chain []byte) *x509.Certificate {
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certificateType {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		return certificate
	}
	return nil
}

func onlyCertificates(chain []byte) bool {
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certificateType {
			return false
		}
	}
	return true
}
