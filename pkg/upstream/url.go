// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// ErrUserInfo is wrapped by the errors of [ParseURL] for a URL with a user name or a password, so that callers can add
// where a credential belongs instead.
var ErrUserInfo = errors.New("must not contain a user name or password")

// URL is the address of a registry or a proxy, http(s)://host[:port].
type URL struct {
	// Scheme is "http" or "https".
	Scheme string
	// Hostname is a DNS name in lower case or an IP address without brackets.
	Hostname string
	// Port is from 1 to 65535, or empty for that of the scheme.
	Port string
}

// hostname matches DNS names, and names with underscores, which are valid in Docker networks.
var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?$`)

// ParseURL parses http(s)://host[:port] with an optional slash at the end. Nothing else is allowed: the server appends
// the paths of the registry API. The error names everything that is wrong in one line and quotes nothing, since the
// text may hold a password.
func ParseURL(text string) (URL, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		return URL{}, errors.New("must be a URL such as https://registry.example.com:5000")
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" {
		return URL{}, errors.New("must begin with https:// or http://")
	}

	var problems problems
	if parsed.User != nil {
		problems = append(problems, ErrUserInfo)
	}
	if parsed.Path != "" && parsed.Path != "/" {
		problems = append(problems, errors.New("must not have a path, only a slash at the end"))
	}
	if strings.Contains(text, "?") {
		problems = append(problems, errors.New("must not have a query, not even an empty one"))
	}
	if strings.Contains(text, "#") {
		problems = append(problems, errors.New("must not have a fragment, not even an empty one"))
	}
	host, port := parsed.Hostname(), parsed.Port()
	if _, err := netip.ParseAddr(host); err != nil && !hostname.MatchString(host) {
		problems = append(problems, errors.New("must name a host: a DNS name or an IP address"))
	}
	if strings.HasSuffix(parsed.Host, ":") || port != "" {
		if err := ValidatePort(port); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return URL{}, problems
	}
	return URL{Scheme: parsed.Scheme, Hostname: strings.ToLower(host), Port: port}, nil
}

// ValidatePort reports why a port is not usable in an address.
func ValidatePort(port string) error {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || port != strconv.FormatUint(number, 10) {
		return errors.New("the port must be a number from 1 to 65535, without leading zeros")
	}
	return nil
}

// Host is the host with the port if there is one, an IPv6 address in brackets.
func (u URL) Host() string {
	if u.Port != "" {
		return net.JoinHostPort(u.Hostname, u.Port)
	}
	if strings.Contains(u.Hostname, ":") {
		return "[" + u.Hostname + "]"
	}
	return u.Hostname
}

// String is the URL in its canonical form: in lower case and without a slash at the end.
func (u URL) String() string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host()}).String()
}

// problems is everything that is wrong with one value.
type problems []error

func (p problems) Error() string {
	messages := make([]string, len(p))
	for i, err := range p {
		messages[i] = err.Error()
	}
	return strings.Join(messages, "; ")
}

func (p problems) Unwrap() []error { return p }
