// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// MaxDockerConfigLength is the maximum length of a Docker configuration, about 200 registries.
	MaxDockerConfigLength = 64 << 10
	// maxNamedHosts bounds the hosts in an error.
	maxNamedHosts = 5
	// maxNamedHostLength bounds the length of each of them. Tokens with dots are longer.
	maxNamedHostLength = 100
)

// dockerHubHosts are the names of Docker Hub in Docker configurations, of which clients use all.
var dockerHubHosts = []string{"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}

// dockerConfig is a Docker configuration as `kubectl create secret docker-registry` and `docker login` write it.
type dockerConfig struct {
	Auths       map[string]dockerAuth      `json:"auths"`
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]json.RawMessage `json:"credHelpers"`

	// keys are the keys of Auths, parsed.
	keys []dockerKey
}

// dockerAuth is an entry of a Docker configuration.
type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// parseDockerConfig returns a Docker configuration or its problem, which does not quote it.
func parseDockerConfig(data []byte) (*dockerConfig, string) {
	if len(data) > MaxDockerConfigLength {
		return nil, fmt.Sprintf("a Docker configuration must have at most %d bytes; remove the registries that the cluster does not use", MaxDockerConfigLength)
	}
	config := &dockerConfig{}
	if json.Unmarshal(data, config) != nil {
		return nil, "must be a Docker configuration in JSON, as `kubectl create secret docker-registry` creates it"
	}
	if config.CredsStore != "" || len(config.CredHelpers) > 0 {
		return nil, "a Docker configuration must not have credsStore or credHelpers, since a cache has no credential helpers; " +
			"create it with `kubectl create secret docker-registry`"
	}
	for _, key := range slices.Sorted(maps.Keys(config.Auths)) {
		config.keys = append(config.keys, parseDockerKey(key))
	}
	return config, ""
}

// dockerForm is a Docker configuration.
type dockerForm struct{ content *Content }

func (f dockerForm) extract(r *report, use Use) credentials.Material {
	const key = corev1.DockerConfigJsonKey
	data := f.content.secret.Data
	if use.hasKeys() {
		r.add("is of type %s, for which usernameKey and passwordKey must be unset", corev1.SecretTypeDockerConfigJson)
	}
	if _, ok := data[key]; !ok {
		r.add("must have the key %q", key)
		return credentials.Material{}
	}
	if len(data) > 1 {
		r.add("must have only the key %q, remove the others", key)
	}
	if f.content.problem != "" {
		r.invalidKey(key, f.content.problem)
		return credentials.Material{}
	}
	found, problem := f.content.docker.find(use)
	if problem == "" {
		var c credentials.Credential
		if c, problem = found.credential(); problem == "" {
			return credentials.Static(c)
		}
		problem = fmt.Sprintf("the entry for the upstream %q is invalid: %s", use.Upstream, problem)
	}
	r.invalidKey(key, problem)
	return credentials.Material{}
}

// find returns the entry for a use, the one with the longest path that contains all repositories. Only an entry without a
// path is for a whole upstream: clients would not present another one for all repositories.
func (d *dockerConfig) find(use Use) (dockerAuth, string) {
	var (
		hosts     = hostsOf(use)
		best      *dockerKey
		ambiguous bool
		matches   int
	)
	for _, key := range d.keys {
		if key.rank = key.matches(hosts); key.rank == 0 {
			continue
		}
		matches++
		switch {
		case !key.contains(use.Repositories):
		case best == nil || key.better(*best):
			best, ambiguous = &key, false
		case !best.better(key) && !d.Auths[key.text].equal(d.Auths[best.text]):
			ambiguous = true
		}
	}
	switch {
	case ambiguous:
		return dockerAuth{}, fmt.Sprintf("there are several entries for the upstream %q, whose credentials differ; keep one of them", use.Upstream)
	case best != nil:
		return d.Auths[best.text], ""
	case matches > 0 && len(use.Repositories) == 0:
		return dockerAuth{}, fmt.Sprintf("the entries for the upstream %q all have paths; reference the Secret in credentials[] with the repositories of one path, or create a Secret with an entry without a path", use.Upstream)
	case matches > 0:
		return dockerAuth{}, fmt.Sprintf("the paths of the entries for the upstream %q do not contain all repositories", use.Upstream)
	}
	return dockerAuth{}, fmt.Sprintf("there is no entry for the upstream %q, %s", use.Upstream, d.describeHosts())
}

// describeHosts names the hosts in the configuration. It leaves out what does not look like a host: an owner who swaps
// the arguments of kubectl has a password for a key.
func (d *dockerConfig) describeHosts() string {
	var hosts []string
	for _, key := range d.keys {
		if key.isPrintable() && !slices.Contains(hosts, key.host) {
			hosts = append(hosts, key.host)
		}
	}
	if len(hosts) == 0 {
		return "and none for any other host"
	}
	text := "only for " + strings.Join(hosts[:min(len(hosts), maxNamedHosts)], ", ")
	if more := len(hosts) - maxNamedHosts; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// credential returns the credential of an entry, or its problem. A token takes the place of the password, as it does
// for docker.
func (a dockerAuth) credential() (credentials.Credential, string) {
	c := credentials.Credential{Username: a.Username, Password: a.Password}
	if a.Auth != "" {
		username, password, ok := credentials.ParseBasicAuth(a.Auth)
		if !ok {
			return credentials.Credential{}, "auth must be user:password in Base64"
		}
		c.Username, c.Password = username, password
	}
	switch {
	case a.RegistryToken != "":
		c = credentials.Credential{RegistryToken: a.RegistryToken}
	case a.IdentityToken != "":
		c = credentials.Credential{Username: c.Username, IdentityToken: a.IdentityToken}
	default:
		for _, problem := range []string{checkUsername(c.Username), checkPassword(c)} {
			if problem != "" {
				return credentials.Credential{}, problem
			}
		}
	}
	if err := c.Validate(); err != nil {
		return credentials.Credential{}, err.Error()
	}
	return c, ""
}

// equal reports whether two entries have the same credential, in whatever form.
func (a dockerAuth) equal(other dockerAuth) bool {
	c, problem := a.credential()
	otherCredential, otherProblem := other.credential()
	return c == otherCredential && problem == otherProblem
}

// dockerKey is the key of an entry: a host with an optional scheme, port and path. The host may have wildcards.
type dockerKey struct {
	// text is the key itself.
	text string
	// host is the host with the port, in lower case, and without the port of the scheme.
	host string
	path string
	// rank is how well the host matches: the higher, the better.
	rank int
}

var (
	printableHost = regexp.MustCompile(`^[a-z0-9*]([a-z0-9.*_-]{0,251}[a-z0-9])?(:[0-9]{1,5})?$`)
	// apiVersions are paths with which clients write the host of a registry.
	apiVersions = []string{"v1", "v2"}
)

// isPrintable reports whether the key names a host for certain. Without a dot or a port, clients take a name for a
// repository of Docker Hub.
func (k dockerKey) isPrintable() bool {
	return len(k.host) <= maxNamedHostLength && printableHost.MatchString(k.host) && (k.host == "localhost" || strings.ContainsAny(k.host, ".:"))
}

func parseDockerKey(text string) dockerKey {
	rest, scheme := strings.ToLower(text), "https"
	if before, after, ok := strings.Cut(rest, "://"); ok {
		scheme, rest = before, after
	}
	host, path, _ := strings.Cut(rest, "/")
	path = strings.Trim(path, "/")
	if slices.Contains(apiVersions, path) {
		path = ""
	}
	return dockerKey{text: text, host: canonicalHost(scheme, host), path: path}
}

// canonicalHost removes the port of the scheme, and unifies the names of Docker Hub.
func canonicalHost(scheme, host string) string {
	if scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	} else {
		host = strings.TrimSuffix(host, ":443")
	}
	if slices.Contains(dockerHubHosts, host) {
		return string(upstream.DockerHub)
	}
	return host
}

// hostsOf returns the hosts that entries for a use may have, the best first. Clients use the name in image references,
// but some log in to the host of the API.
func hostsOf(use Use) []string {
	hosts := []string{canonicalHost("https", strings.ToLower(use.Upstream))}
	if url, err := upstream.ParseURL(use.RemoteURL); err == nil {
		hosts = append(hosts, canonicalHost(url.Scheme, url.Host()))
	}
	return hosts
}

// matches returns the rank of the key for hosts, 0 if it does not match any. A wildcard stands for a part of a label,
// as it does for the kubelet.
func (k dockerKey) matches(hosts []string) int {
	for i, host := range hosts {
		if k.host == host {
			return 2*len(hosts) - i
		}
		if strings.Contains(k.host, "*") && matchesLabels(k.host, host) {
			return len(hosts) - i
		}
	}
	return 0
}

func matchesLabels(pattern, host string) bool {
	patterns, labels := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(patterns) != len(labels) {
		return false
	}
	for i := range labels {
		if ok, err := path.Match(patterns[i], labels[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// contains reports whether all repositories are below the path of the key. Only an empty path contains all repositories
// of an upstream.
func (k dockerKey) contains(repositories []string) bool {
	if k.path == "" {
		return true
	}
	for _, repository := range repositories {
		if repository != k.path && !strings.HasPrefix(repository, k.path+"/") {
			return false
		}
	}
	return len(repositories) > 0
}

// better reports whether the key is more specific than another that matches too.
func (k dockerKey) better(other dockerKey) bool {
	if len(k.path) != len(other.path) {
		return len(k.path) > len(other.path)
	}
	return k.rank > other.rank
}
