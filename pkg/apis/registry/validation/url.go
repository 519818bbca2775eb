// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"errors"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/upstream"
)

// maxURLLength is the length of a scheme, a DNS name and a port.
const maxURLLength = len("https://") + maxUpstreamLength

// validateURL validates the URL of an upstream or a proxy if it has changed. The URL becomes part of configuration
// files and of file names on nodes. Beyond the rule for all URLs it must therefore be canonical, and its host must have
// the form of an upstream: no underscores, and no IPv6 address, which neither certificates nor image references of
// registries have. The defaults of v1alpha3 have already removed a trailing slash.
func validateURL(value, old *string, fldPath *field.Path) field.ErrorList {
	if value == nil || ptr.Equal(value, old) {
		return nil
	}
	if len(*value) > maxURLLength {
		return field.ErrorList{field.TooLong(fldPath, *value, maxURLLength)}
	}
	parsed, err := upstream.ParseURL(*value)
	switch {
	case errors.Is(err, upstream.ErrUserInfo):
		return field.ErrorList{invalid(fldPath, *value, err.Error()+"; put the credential of an upstream into a Secret, see secretReferenceName")}
	case err != nil:
		return field.ErrorList{invalid(fldPath, *value, err.Error())}
	case len(validation.IsDNS1123Subdomain(parsed.Hostname)) > 0: // An IPv4 address has the form of a DNS name.
		return field.ErrorList{invalid(fldPath, *value, "must name a host: a DNS name or an IPv4 address")}
	case *value != parsed.String():
		return field.ErrorList{invalid(fldPath, *value, "must be written as "+parsed.String())}
	}
	return nil
}

// invalid omits a value that may contain a password.
func invalid(fldPath *field.Path, value, detail string) *field.Error {
	if strings.Contains(value, "@") {
		return field.Invalid(fldPath, field.OmitValueType{}, detail)
	}
	return field.Invalid(fldPath, value, detail)
}
