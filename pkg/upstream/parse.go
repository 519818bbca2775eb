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

// dockerHubHosts are the known hosts of Docker Hub. Image references use the first one, the API is at the second one.
var dockerHubHosts = []string{string(DockerHub), "registry-1.docker.io", "index.docker.io", "registry.hub.docker.com", "hub.docker.com"}

// IsDockerHub reports whether the upstream is Docker Hub, whose API has a different host than its image references.
func (u Upstream) IsDockerHub() bool {
	return u == DockerHub
}

// Parse parses a registry from the command line: a host with an optional port and an optional https:// or http://. It
// returns the upstream and its URL. Errors never quote a part that may hold a password.
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
		return "", "", fmt.Errorf("must not begin with http://, since Docker Hub supports only https://: use %s", DockerHub)
	}
	return DockerHub, dockerHubRemoteURL, nil
}

// domain matches the registry of an image reference.
var domain = regexp.MustCompile("^(?:" + reference.DomainRegexp.String() + ")$")

func validateHost(host string) error {
	switch {
	case !domain.MatchString(host):
		return fmt.Errorf("must be the host of a registry with an optional port, such as %s or registry.example.com:5000", DockerHub)
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return fmt.Errorf("must have a dot or a port, since clients interpret %q as a repository of Docker Hub; the host of Docker Hub is %s", host, DockerHub)
	}
	_, port, ok := strings.Cut(host[strings.IndexByte(host, ']')+1:], ":")
	if !ok {
		return nil
	}
	return ValidatePort(port)
}
