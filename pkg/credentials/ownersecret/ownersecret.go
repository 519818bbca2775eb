// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package ownersecret extracts credentials from the Secrets of Shoot owners. It is pure and shared by admission and the
// controller, which read Secrets in their own ways. The cache server reads files instead of Secrets and links neither
// this package nor the Kubernetes API.
//
// The type and the keys of a Secret determine its form: a user name and a password, a Docker configuration, or an AWS
// access key. No error shows a value or a key of a Secret.
package ownersecret

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

// MaxLength is the maximum length of a user name and a password together, or of a token, in bytes: far above the length
// of keys and tokens. A credential is sent in a header, which HTTP servers limit to 8 to 16 KiB.
const MaxLength = 16 << 10

// Use describes what a cache uses a Secret for.
type Use struct {
	// Upstream is the registry that the credential is for, and RemoteURL the URL of its API.
	Upstream  string
	RemoteURL string
	// Repositories are the prefixes of the repositories that the credential is for; none means all.
	Repositories []string
	// UsernameKey and PasswordKey are the keys of the user name and the password. If both are empty, the Secret may have
	// any form.
	UsernameKey string
	PasswordKey string
	// PullSecret reports whether pods get the credential in a pull secret.
	PullSecret bool
}

// Same reports whether a Secret that is valid for one use is valid for the other.
func (u Use) Same(other Use) bool {
	return u.Upstream == other.Upstream && u.RemoteURL == other.RemoteURL && slices.Equal(u.Repositories, other.Repositories) &&
		u.UsernameKey == other.UsernameKey && u.PasswordKey == other.PasswordKey && u.PullSecret == other.PullSecret
}

func (u Use) hasKeys() bool { return u.UsernameKey != "" || u.PasswordKey != "" }

// Content is the content of a Secret. Parsing it once is cheaper than parsing it for each of many uses.
type Content struct {
	secret *corev1.Secret
	// docker is the Docker configuration, nil for the other forms.
	docker *dockerConfig
	// problem is what makes the Docker configuration invalid.
	problem string
	// isIdentity means that the Secret contains the token of a workload identity.
	isIdentity bool
}

// Parse parses the content of a Secret.
func Parse(secret *corev1.Secret) *Content {
	c := &Content{secret: secret}
	if secret.Type == corev1.SecretTypeDockerConfigJson {
		c.docker, c.problem = parseDockerConfig(secret.Data[corev1.DockerConfigJsonKey])
	}
	return c
}

// ParseWorkloadIdentity returns the content of the Secret in which Gardener keeps the token of a workload identity, see
// [WorkloadIdentity].
func ParseWorkloadIdentity(secret *corev1.Secret) *Content {
	return &Content{secret: secret, isIdentity: true}
}

// Name returns the name of the material, see [credentials.Named].
func (c *Content) Name() string {
	if c.isIdentity {
		return credentials.IdentityName(c.secret.Name)
	}
	return c.secret.Name
}

// Material returns the material in the Secret for a use, or all errors. The errors are reported for fldPath, the field
// that references the Secret.
func (c *Content) Material(use Use, fldPath *field.Path) (credentials.Material, field.ErrorList) {
	if c.isIdentity {
		return WorkloadIdentity(c.secret, use, fldPath)
	}
	r := &report{secret: c.secret, fldPath: fldPath}
	// gardenlet copies the Secret at its next reconciliation. If it were mutable, an edit would reach the caches at an
	// arbitrary later time.
	if !ptr.Deref(c.secret.Immutable, false) {
		r.add("must be immutable: set `immutable: true`; to change the credential, create a new Secret and reference it")
	}
	material := c.form().extract(r, use)
	if len(r.errs) > 0 {
		return credentials.Material{}, r.errs
	}
	return material, nil
}

// Validate validates the Secret for a use that a Shoot starts. It is stricter than [Content.Material]: running caches
// keep their credentials, even if HTTP does not allow them.
func (c *Content) Validate(use Use, fldPath *field.Path) field.ErrorList {
	material, allErrs := c.Material(use, fldPath)
	if len(allErrs) > 0 {
		return allErrs
	}
	r := &report{secret: c.secret, fldPath: fldPath}
	if material.IsStatic() {
		checkStrictly(r, material.Credential)
		if _, isAzure := upstream.ParseACR(use.host()); use.PullSecret {
			if _, _, ok := material.Credential.Basic(isAzure); !ok {
				r.add("must have a user name and a password, not a token: the kubelet passes nothing else of a pull secret to the container runtime; use another credential, or remove pullSecret from the cache")
			}
		}
	}
	return r.errs
}

// form extracts material from a Secret, and reports what prevents it.
type form interface {
	extract(r *report, use Use) credentials.Material
}

func (c *Content) form() form {
	data := c.secret.Data
	// The API server defaults an unset type to Opaque.
	switch c.secret.Type {
	case corev1.SecretTypeDockerConfigJson:
		return dockerForm{content: c}
	case corev1.SecretTypeBasicAuth:
		return basicForm{data: data}
	case corev1.SecretTypeOpaque, "":
		if isAWS(data) {
			return awsForm{data: data}
		}
		return basicForm{data: data}
	case corev1.SecretTypeDockercfg:
		return unsupported{problem: fmt.Sprintf(
			"must not be of the outdated type %s; create it with `kubectl create secret docker-registry`, which makes a Secret of type %s",
			corev1.SecretTypeDockercfg, corev1.SecretTypeDockerConfigJson)}
	}
	return unsupported{
		problem: fmt.Sprintf("must be of type %s, %s or %s", corev1.SecretTypeOpaque, corev1.SecretTypeBasicAuth, corev1.SecretTypeDockerConfigJson),
		form:    basicForm{data: data},
	}
}

// unsupported is a form that is refused. The errors of the form that it resembles are reported as well.
type unsupported struct {
	problem string
	form    form
}

func (u unsupported) extract(r *report, use Use) credentials.Material {
	r.add("%s", u.problem)
	if u.form != nil {
		u.form.extract(r, use)
	}
	return credentials.Material{}
}

// report collects the problems of a Secret.
type report struct {
	secret  *corev1.Secret
	fldPath *field.Path
	errs    field.ErrorList
}

func (r *report) add(format string, args ...any) {
	r.errs = append(r.errs, invalidSecret(r.secret, r.fldPath, format, args...))
}

func (r *report) invalidKey(key, problem string) {
	r.add("has an invalid value for the key %q: %s", key, problem)
}

func invalidSecret(secret *corev1.Secret, fldPath *field.Path, format string, args ...any) *field.Error {
	return field.Invalid(fldPath, secret.Namespace+"/"+secret.Name, "the referenced Secret "+fmt.Sprintf(format, args...))
}
