// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"net/url"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// maxURLLength is that of a scheme, a DNS name and a port.
const maxURLLength = len("https://") + maxUpstreamLength

const portMessage = "the port must be a number from 1 to 65535, without leading zeros"

// validateURL validates the URL of an upstream or proxy, if it changed. Such a
// URL ends up in configuration files and in the names of files on nodes, and
// http.Client appends paths to it, so that nothing but scheme, host and port is
// allowed. The host must be written as in an upstream: lower case, and no IPv6
// address, which neither certificates nor image references of registries have.
// A slash at the end is gone before, see the defaults of v1alpha3.
func validateURL(value, old *string, fldPath *field.Path) field.ErrorList {
	if value == nil || ptr.Equal(value, old) {
		return nil
	}
	if len(*value) > maxURLLength {
		return field.ErrorList{field.TooLong(fldPath, *value, maxURLLength)}
	}
	parsed, err := url.Parse(*value)
	if err != nil {
		return field.ErrorList{invalid(fldPath, *value, "must be a URL such as https://registry.example.com:5000")}
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" {
		return field.ErrorList{invalid(fldPath, *value, "must begin with https:// or http://")}
	}

	var allErrs field.ErrorList
	if parsed.User != nil {
		allErrs = append(allErrs, invalid(fldPath, *value, "must not contain a user name or password; credentials of an upstream belong into a Secret, see secretReferenceName"))
	}
	if parsed.Path != "" {
		allErrs = append(allErrs, invalid(fldPath, *value, "must not have a path, only a slash at the end"))
	}
	if strings.Contains(*value, "?") {
		allErrs = append(allErrs, invalid(fldPath, *value, "must not have a query, not even an empty one"))
	}
	if strings.Contains(*value, "#") {
		allErrs = append(allErrs, invalid(fldPath, *value, "must not have a fragment, not even an empty one"))
	}
	if !isHost(parsed.Hostname()) {
		allErrs = append(allErrs, invalid(fldPath, *value, "must name a host: a DNS name in lower case, or an IPv4 address"))
	}
	if port := parsed.Port(); strings.HasSuffix(parsed.Host, ":") || port != "" && !isPort(port) {
		allErrs = append(allErrs, invalid(fldPath, *value, portMessage))
	}
	if canonical := parsed.Scheme + "://" + parsed.Host; len(allErrs) == 0 && *value != canonical {
		allErrs = append(allErrs, invalid(fldPath, *value, "must be written as "+canonical))
	}
	return allErrs
}

// isHost says whether a host from a URL is usable. An IPv4 address has the form of a DNS name.
func isHost(host string) bool {
	return len(validation.IsDNS1123Subdomain(host)) == 0
}

func isPort(port string) bool {
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0 && port == strconv.FormatUint(number, 10)
}

// invalid does not show values that may contain a password.
func invalid(fldPath *field.Path, value, detail string) *field.Error {
	if strings.Contains(value, "@") {
		return field.Invalid(fldPath, field.OmitValueType{}, detail)
	}
	return field.Invalid(fldPath, value, detail)
}
