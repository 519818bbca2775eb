// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

// The keys of a Secret with an AWS access key.
const (
	accessKeyIDKey     = "accessKeyID"
	secretAccessKeyKey = "secretAccessKey"
	sessionTokenKey    = "sessionToken"
	roleARNKey         = "roleARN"
	externalIDKey      = "externalID"
)

const (
	maxSecretAccessKeyLength = 256
	maxSessionTokenLength    = 8 << 10
	maxExternalIDLength      = 1224

	// temporaryKeyPrefix is the prefix of the IDs of access keys that are valid only with a session token.
	temporaryKeyPrefix = "ASIA"
)

var (
	accessKeyID = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)
	externalID  = regexp.MustCompile(`^[A-Za-z0-9_+=,.@:/-]{2,}$`)
)

// awsForm is an access key for Amazon ECR.
type awsForm struct{ data map[string][]byte }

// isAWS reports whether a Secret has a key of the form.
func isAWS(data map[string][]byte) bool {
	for _, key := range []string{accessKeyIDKey, secretAccessKeyKey} {
		if _, ok := data[key]; ok {
			return true
		}
	}
	return false
}

func (f awsForm) extract(r *report, use Use) credentials.Material {
	if use.hasKeys() {
		return basicForm(f).extract(r, use)
	}
	if _, ok := upstream.ParseECR(use.host()); !ok {
		r.add("has an AWS access key, which is only valid for Amazon ECR, and %q is no registry of Amazon ECR; reference a Secret with the keys %q and %q",
			use.host(), credentials.UsernameKey, credentials.PasswordKey)
	}
	known := 0
	for _, key := range []string{accessKeyIDKey, secretAccessKeyKey, sessionTokenKey, roleARNKey, externalIDKey} {
		value, ok := f.data[key]
		if ok {
			known++
		}
		if problem := checkAWS(key, string(value)); ok && problem != "" {
			r.invalidKey(key, problem)
		} else if !ok && (key == accessKeyIDKey || key == secretAccessKeyKey) {
			r.add("must have the key %q", key)
		}
	}
	if len(f.data) > known {
		r.add("must have only the keys %q, %q, %q, %q and %q, remove the others", accessKeyIDKey, secretAccessKeyKey, sessionTokenKey, roleARNKey, externalIDKey)
	}
	keys := credentials.AWSKeys{
		AccessKeyID:     string(f.data[accessKeyIDKey]),
		SecretAccessKey: string(f.data[secretAccessKeyKey]),
		SessionToken:    string(f.data[sessionTokenKey]),
		RoleARN:         string(f.data[roleARNKey]),
		ExternalID:      string(f.data[externalIDKey]),
	}
	if strings.HasPrefix(keys.AccessKeyID, temporaryKeyPrefix) && keys.SessionToken == "" {
		r.add("must have the key %q: the access key is temporary", sessionTokenKey)
	}
	if keys.ExternalID != "" && keys.RoleARN == "" {
		r.add("must have the key %q: the external ID is for a role, add it or remove the key %q", roleARNKey, externalIDKey)
	}
	return credentials.Material{AWS: keys}
}

// checkAWS returns the problem with the value of a key.
func checkAWS(key, value string) string {
	switch key {
	case accessKeyIDKey:
		if !accessKeyID.MatchString(value) {
			return "the ID of an access key has 16 to 128 capital letters and digits, without line breaks (create it with `printf` or `echo -n`)"
		}
	case secretAccessKeyKey:
		return checkAWSToken(value, maxSecretAccessKeyLength)
	case sessionTokenKey:
		return checkAWSToken(value, maxSessionTokenLength)
	case roleARNKey:
		if !credentials.IsRoleARN(value) {
			return "must be the ARN of a role, for example arn:aws:iam::123456789012:role/puller"
		}
	case externalIDKey:
		if len(value) > maxExternalIDLength || !externalID.MatchString(value) {
			return "an external ID has 2 to 1224 letters, digits and characters of _+=,.@:/-, without line breaks (create it with `printf` or `echo -n`)"
		}
	}
	return ""
}

func checkAWSToken(value string, maxLength int) string {
	if len(value) > maxLength {
		return fmt.Sprintf("must have at most %d bytes", maxLength)
	}
	if credentials.ValidateToken(value) != nil {
		return "must not be empty, and must have printable ASCII characters only, without line breaks (create it with `printf` or `echo -n`)"
	}
	return ""
}
