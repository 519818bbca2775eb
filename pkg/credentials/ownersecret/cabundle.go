// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

const (
	// CABundleKey is the key of the CA bundle in a Secret.
	CABundleKey = "bundle.crt"

	// MaxCABundleLength is the maximum length of a CA bundle, about 20 certificates. The bundles of all mirrors become
	// part of the configuration of each node, and those of all caches part of a ManagedResource; each is stored in one
	// Secret of at most 1 MiB.
	MaxCABundleLength = 32 << 10
	// maxCertificates is the maximum number of certificates in a CA bundle. Containerd parses them for each pull.
	maxCertificates = 50

	certificateType = "CERTIFICATE"
)

// CABundle returns the certificates in the CA bundle of the Secret in PEM, or all errors. The errors are reported for
// fldPath, the field that references the Secret, and never show its content, not even its keys.
//
// Nodes keep the bundle in a file that every process can read, so everything else is left out: private keys, other
// blocks, and text as in the output of `openssl s_client`. Containerd ignores the same blocks. A Secret without any
// certificate is an error.
func CABundle(secret *corev1.Secret, fldPath *field.Path) ([]byte, field.ErrorList) {
	data, ok := secret.Data[CABundleKey]
	if !ok {
		return nil, field.ErrorList{missingCABundle(secret, fldPath)}
	}
	bundle := parseCABundle(data)
	if len(bundle.certificates) == 0 {
		return nil, field.ErrorList{invalidCABundle(secret, fldPath, bundle.problem)}
	}
	return bundle.pem(), nil
}

// ValidateCABundle validates a Secret that a Shoot starts to use. It is stricter than [CABundle]: running mirrors and
// caches keep their bundles, even if the Secrets are not immutable, have other keys, have more than certificates, or have grown too
// large or expired. Another implementation of the extension may have accepted them.
func ValidateCABundle(secret *corev1.Secret, now time.Time, fldPath *field.Path) field.ErrorList {
	allErrs := checkCABundleMetadata(secret, fldPath)
	data, ok := secret.Data[CABundleKey]
	if !ok {
		return allErrs
	}
	// Parse only what is short.
	if len(data) > MaxCABundleLength {
		return append(allErrs, invalidCABundle(secret, fldPath,
			fmt.Sprintf("a CA bundle must have at most %d bytes; include only private CAs, public ones are trusted anyway", MaxCABundleLength)))
	}
	bundle := parseCABundle(data)
	if bundle.problem != "" {
		return append(allErrs, invalidCABundle(secret, fldPath, bundle.problem))
	}
	if len(allErrs) > 0 {
		return allErrs
	}
	invalid := func(format string, args ...any) {
		allErrs = append(allErrs, invalidCABundle(secret, fldPath, fmt.Sprintf(format, args...)))
	}
	if len(bundle.certificates) > maxCertificates {
		invalid("a CA bundle must have at most %d certificates", maxCertificates)
	}
	if bundle.hasText {
		invalid("a CA bundle must contain only certificates in PEM; remove all text around them and the indentation")
	}
	if !bundle.validAt(now) {
		invalid("all certificates of the CA bundle have expired")
	}
	return allErrs
}

// caBundle is the content of a CA bundle.
type caBundle struct {
	data         []byte
	certificates []*x509.Certificate
	// hasText reports whether the data has more than PEM blocks and white space.
	hasText bool
	// problem is the first problem with the blocks, empty if all of them are certificates and there is at least one.
	problem string
}

func missingCABundle(secret *corev1.Secret, fldPath *field.Path) *field.Error {
	return invalidSecret(secret, fldPath, "must have the key %q", CABundleKey)
}

func invalidCABundle(secret *corev1.Secret, fldPath *field.Path, problem string) *field.Error {
	return invalidSecret(secret, fldPath, "has an invalid value for the key %q: %s", CABundleKey, problem)
}

// checkCABundleMetadata checks everything but the content of the bundle.
func checkCABundleMetadata(secret *corev1.Secret, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	if !ptr.Deref(secret.Immutable, false) {
		allErrs = append(allErrs, invalidSecret(secret, fldPath,
			"must be immutable: set `immutable: true`; to change the CA bundle, create a new Secret and reference it"))
	}
	others := len(secret.Data)
	if _, ok := secret.Data[CABundleKey]; ok {
		others--
	} else {
		allErrs = append(allErrs, missingCABundle(secret, fldPath))
	}
	if others > 0 {
		allErrs = append(allErrs, invalidSecret(secret, fldPath, "must have only the key %q, remove the others", CABundleKey))
	}
	return allErrs
}

// parseCABundle returns the content of a bundle.
func parseCABundle(data []byte) caBundle {
	bundle := caBundle{data: data}
	report := func(format string, args ...any) {
		if bundle.problem == "" {
			bundle.problem = fmt.Sprintf(format, args...)
		}
	}
	rest := data
	for number := 1; ; number++ {
		block, after := pem.Decode(rest)
		if block == nil {
			bundle.hasText = bundle.hasText || len(bytes.TrimSpace(rest)) > 0
			break
		}
		// The decoder skips text, including damaged blocks.
		if text := rest[:len(rest)-len(after)]; !bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN ")) || bytes.Count(text, []byte("-----BEGIN ")) != 1 {
			bundle.hasText = true
		}
		rest = after

		if block.Type != certificateType {
			report("PEM block %d is not a certificate; a CA bundle must contain only blocks of type %s, no private keys", number, certificateType)
			continue
		}
		if len(block.Headers) > 0 {
			report("certificate %d has PEM headers; remove them", number)
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil { // The error may quote the certificate.
			report("certificate %d cannot be parsed", number)
			continue
		}
		bundle.certificates = append(bundle.certificates, certificate)
	}
	if len(bundle.certificates) == 0 {
		report("a CA bundle must contain at least one certificate in PEM")
	}
	return bundle
}

// pem returns the certificates in PEM, byte for byte as in the Secret if that contains nothing else.
func (b caBundle) pem() []byte {
	if !b.hasText && b.problem == "" {
		return b.data
	}
	var certificates bytes.Buffer
	for _, certificate := range b.certificates {
		certificates.Write(pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: certificate.Raw}))
	}
	return certificates.Bytes()
}

// validAt reports whether a certificate has not expired. Certificates that are not valid yet count: a rotation deploys
// them early.
func (b caBundle) validAt(now time.Time) bool {
	for _, certificate := range b.certificates {
		if !now.After(certificate.NotAfter) {
			return true
		}
	}
	return false
}
