// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// dockerHubHosts are the hosts by which people know Docker Hub. Image references
// have the first one, the API is at the second one.
var dockerHubHosts = []string{dockerHub, "registry-1.docker.io", "index.docker.io", "registry.hub.docker.com", "hub.docker.com"}

// IsDockerHub reports whether this is Docker Hub, whose API has another host
// than its images name.
func (u Upstream) IsDockerHub() bool {
	return u == dockerHub
}

// Parse reads a registry as people type it: a host with an optional port, with
// or without https:// or http:// in front. It returns the upstream and its URL.
// Errors never quote a part that may hold a password.
func Parse(text string) (Upstream, string, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "https", text
	}
	if scheme = strings.ToLower(scheme); scheme != "https" && scheme != "http" {
		return "", "", errors.New("must begin with https:// or http://, or with the host, which implies https://")
	}
	host, path, _ := strings.Cut(strings.ToLower(rest), "/")
	if strings.Contains(rest, "@") { // A password may hold a slash.
		return "", "", errors.New("must be a plain host, remove the user, password or digest around the @")
	}
	if err := validateHost(host); err != nil {
		return "", "", err
	}
	if path != "" {
		return "", "", fmt.Errorf("must be a host without a path, since a cache serves all repositories of a registry: use %s", host)
	}
	if !slices.Contains(dockerHubHosts, strings.TrimSuffix(host, ":443")) {
		return Upstream(host), scheme + "://" + host, nil
	}
	if scheme == "http" {
		return "", "", fmt.Errorf("must not begin with http://, since Docker Hub is reached by https:// only: use %s", dockerHub)
	}
	return dockerHub, dockerHubRemoteURL, nil
}

// domain matches the registry in an image reference, where clients find it.
var domain = regexp.MustCompile("^(?:" + reference.DomainRegexp.String() + ")$")

func validateHost(host string) error {
	switch {
	case !domain.MatchString(host):
		return fmt.Errorf("must be the host of a registry with an optional port, such as %s or registry.example.com:5000", dockerHub)
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return fmt.Errorf("must have a dot or a port, since clients take %q for a repository of Docker Hub; the host of Docker Hub is %s", host, dockerHub)
	}
	_, port, ok := strings.Cut(host[strings.IndexByte(host, ']')+1:], ":")
	if !ok {
		return nil
	}
	return ValidatePort(port)
}
