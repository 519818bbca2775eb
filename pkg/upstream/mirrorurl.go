// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
)

// MirrorURL is the address of a mirror, http(s)://host[:port][/path].
type MirrorURL struct {
	URL
	// Path begins with a slash and does not end with one; it is empty if there is none.
	Path string
}

// segment matches a segment of a path. Containerd decodes percent-encoded characters, but does not encode them again,
// and nodes have the URL in a file.
var segment = regexp.MustCompile(`^[A-Za-z0-9._~+:-]+$`)

// ParseMirrorURL parses http(s)://host[:port][/path] with an optional slash at the end. The error names everything that
// is wrong in one line and quotes nothing, as that of [ParseURL].
func ParseMirrorURL(text string) (MirrorURL, error) {
	address, path := text, ""
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		host, after, _ := strings.Cut(rest, "/")
		address, path = scheme+"://"+host, after
	}
	parsed, err := ParseURL(address)
	if err != nil && strings.Contains(path, "@") { // The password may have a slash.
		return MirrorURL{}, ErrUserInfo
	}

	var found problems
	if err != nil {
		found = append(found, err)
	}
	if path != "" {
		path = strings.TrimSuffix(path, "/")
		found = append(found, checkPath(path)...)
		path = "/" + path
	}
	if len(found) > 0 {
		return MirrorURL{}, found
	}
	return MirrorURL{URL: parsed, Path: path}, nil
}

// checkPath checks a path without its first slash.
func checkPath(path string) problems {
	var found problems
	if strings.Contains(path, "?") {
		found = append(found, errors.New("must not have a query, not even an empty one"))
	}
	if strings.Contains(path, "#") {
		found = append(found, errors.New("must not have a fragment, not even an empty one"))
	}
	if len(found) > 0 {
		return found
	}
	var dots, odd bool
	for part := range strings.SplitSeq(path, "/") {
		dots = dots || part == "." || part == ".."
		odd = odd || !segment.MatchString(part)
	}
	if dots {
		found = append(found, errors.New(`must not have the path segments "." and ".."`))
	}
	if odd {
		found = append(found, errors.New("must have a path of letters, digits and -._~+: between single slashes"))
	}
	return found
}

// String is the URL in its canonical form: the host in lower case, and no slash at the end.
func (u MirrorURL) String() string {
	return u.URL.String() + u.Path
}

// Key is equal for URLs that lead to the same place: it has the port of the scheme, and the shortest form of an IPv6
// address.
func (u MirrorURL) Key() string {
	if u.Port == "" {
		u.Port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if address, err := netip.ParseAddr(u.Hostname); err == nil {
		u.Hostname = address.String()
	}
	return u.String()
}
