// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package address validates the addresses in the configurations of owners: upstreams and the URLs of registries,
// proxies and mirrors. They become names and contents of files on nodes.
package address

import (
	"errors"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// maxUpstreamLength is the length of a DNS name with a port.
	maxUpstreamLength = validation.DNS1123SubdomainMaxLength + len(":65535")
	// maxURLLength is the length of a scheme, a DNS name and a port.
	maxURLLength = len("https://") + maxUpstreamLength
	// maxMirrorURLLength leaves about as much for a path as a host can have.
	maxMirrorURLLength = 512
)

// ValidateUpstream validates a registry host with an optional port, as it appears in image references.
func ValidateUpstream(value string, fldPath *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(fldPath, "set the registry host as in image references, for example docker.io or registry.example.com:5000")}
	}
	if len(value) > maxUpstreamLength {
		return field.ErrorList{field.TooLong(fldPath, value, maxUpstreamLength)}
	}
	if strings.Contains(value, "/") {
		return field.ErrorList{invalid(fldPath, value, "must be a registry host with an optional port, without a scheme and without a path")}
	}
	var allErrs field.ErrorList
	host, port, hasPort := strings.Cut(value, ":")
	for _, message := range validation.IsDNS1123Subdomain(host) {
		allErrs = append(allErrs, invalid(fldPath, value, "the host must be a DNS name: "+message))
	}
	if hasPort {
		if err := upstream.ValidatePort(port); err != nil {
			allErrs = append(allErrs, invalid(fldPath, value, err.Error()))
		}
	}
	return allErrs
}

// ValidateURL validates the URL of an upstream if it has changed. Beyond the rule for all URLs it must be
// canonical, and its host must have the form of an upstream: no underscores, and no IPv6 address, which neither
// certificates nor image references of registries have. The defaults of v1alpha3 have already removed a trailing slash.
func ValidateURL(value, old *string, fldPath *field.Path) field.ErrorList {
	return validateURL(value, old, fldPath, "put the credential of an upstream into a Secret, see secretReferenceName")
}

// ValidateProxyURL validates the URL of a proxy if it has changed. The rules are those of [ValidateURL].
func ValidateProxyURL(value, old *string, fldPath *field.Path) field.ErrorList {
	return validateURL(value, old, fldPath, "put the credential of a proxy into a Secret, see proxy.secretReferenceName")
}

// validateURL adds the remedy to the error for a URL with a user name or a password.
func validateURL(value, old *string, fldPath *field.Path, remedy string) field.ErrorList {
	if value == nil || ptr.Equal(value, old) {
		return nil
	}
	if len(*value) > maxURLLength {
		return field.ErrorList{field.TooLong(fldPath, *value, maxURLLength)}
	}
	parsed, err := upstream.ParseURL(*value)
	switch {
	case errors.Is(err, upstream.ErrUserInfo):
		return field.ErrorList{invalid(fldPath, *value, err.Error()+"; "+remedy)}
	case err != nil:
		return field.ErrorList{invalid(fldPath, *value, err.Error())}
	case len(validation.IsDNS1123Subdomain(parsed.Hostname)) > 0: // An IPv4 address has the form of a DNS name.
		return field.ErrorList{invalid(fldPath, *value, "must name a host: a DNS name or an IPv4 address")}
	case *value != parsed.String():
		return field.ErrorList{invalid(fldPath, *value, "must be written as "+parsed.String())}
	}
	return nil
}

// ValidateMirrorURL validates the URL of a mirror. Its host must have the form of an upstream or be an IPv6 address.
// The defaults leave the URL as its owner writes it, so that may have a slash at the end.
func ValidateMirrorURL(value string, fldPath *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(fldPath, "set the URL of the mirror, for example https://mirror.example.com")}
	}
	if len(value) > maxMirrorURLLength {
		return field.ErrorList{field.TooLong(fldPath, value, maxMirrorURLLength)}
	}
	parsed, err := upstream.ParseMirrorURL(value)
	switch {
	case errors.Is(err, upstream.ErrUserInfo):
		return field.ErrorList{invalid(fldPath, value, err.Error()+"; nodes authenticate at a mirror with the image pull secrets for the upstream")}
	case err != nil:
		return field.ErrorList{invalid(fldPath, value, err.Error())}
	case len(validation.IsDNS1123Subdomain(parsed.Hostname)) > 0 && !isIPv6(parsed.Hostname):
		return field.ErrorList{invalid(fldPath, value, "must name a host: a DNS name, an IPv4 address, or an IPv6 address in brackets and without a zone")}
	case strings.TrimSuffix(value, "/") != parsed.String():
		return field.ErrorList{invalid(fldPath, value, "must be written as "+parsed.String())}
	}
	return nil
}

func isIPv6(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Is6() && address.Zone() == ""
}

// ValidateRealm validates the host of a token server, which has the form of an upstream.
func ValidateRealm(value string, fldPath *field.Path) field.ErrorList {
	if len(value) > maxUpstreamLength {
		return field.ErrorList{field.TooLong(fldPath, value, maxUpstreamLength)}
	}
	host, port, hasPort := strings.Cut(value, ":")
	if strings.ContainsAny(value, "/@") || len(validation.IsDNS1123Subdomain(host)) > 0 { // An IPv4 address has the form of a DNS name.
		return field.ErrorList{invalid(fldPath, value, "must be the host of a token server with an optional port, without a scheme, a path or a wildcard: a DNS name in lower case or an IPv4 address, for example auth.example.org")}
	}
	if hasPort {
		if err := upstream.ValidatePort(port); err != nil {
			return field.ErrorList{invalid(fldPath, value, err.Error())}
		}
	}
	return nil
}

// ValidateNoProxy validates what is reached without a proxy, in a form that [golang.org/x/net/http/httpproxy] and most
// other programs understand. They ignore an entry that they cannot parse, and read a comma as the start of another one.
func ValidateNoProxy(value string, fldPath *field.Path) field.ErrorList {
	if len(value) > maxUpstreamLength {
		return field.ErrorList{field.TooLong(fldPath, value, maxUpstreamLength)}
	}
	if value == "*" {
		return field.ErrorList{invalid(fldPath, value, "would use no proxy for anything; remove httpProxy and httpsProxy instead")}
	}
	if prefix, err := netip.ParsePrefix(value); err == nil {
		if masked := prefix.Masked(); masked != prefix {
			return field.ErrorList{invalid(fldPath, value, "must be the first address of the range: "+masked.String())}
		}
		return nil
	}
	if address, err := netip.ParseAddr(value); err == nil && address.Zone() == "" {
		return nil
	}
	if address, err := netip.ParseAddrPort(value); err == nil && address.Addr().Zone() == "" && address.Port() != 0 {
		return nil
	}
	host, port, hasPort := strings.Cut(value, ":")
	if strings.ContainsAny(value, "/@%") || len(validation.IsDNS1123Subdomain(strings.TrimPrefix(host, "."))) > 0 {
		return field.ErrorList{invalid(fldPath, value, "must be one host such as example.com, domain such as .example.com, IP address or CIDR range, without a scheme and without a path")}
	}
	if hasPort {
		if err := upstream.ValidatePort(port); err != nil {
			return field.ErrorList{invalid(fldPath, value, err.Error())}
		}
	}
	return nil
}

// Duplicate returns an error for a duplicate address. It omits a value that may contain a password.
func Duplicate(fldPath *field.Path, value string) *field.Error {
	if strings.Contains(value, "@") {
		return &field.Error{Type: field.ErrorTypeDuplicate, Field: fldPath.String(), BadValue: field.OmitValueType{}}
	}
	return field.Duplicate(fldPath, value)
}

// invalid omits a value that may contain a password.
func invalid(fldPath *field.Path, value, detail string) *field.Error {
	if strings.Contains(value, "@") {
		return field.Invalid(fldPath, field.OmitValueType{}, detail)
	}
	return field.Invalid(fldPath, value, detail)
}
