// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecret

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

// ErrUnusable is the error for a credential that a pull secret cannot have: the kubelet passes a user name and a
// password to the container runtime, and nothing else.
var ErrUnusable = errors.New("a pull secret needs a user name and a password")

// Auths are the entries of a pull secret by their keys: the user name, a colon and the password.
type Auths map[string][]byte

// encodedAuth is the encoding of an entry. Like docker, it encodes the user name and the password together: JSON cannot
// carry all bytes.
type encodedAuth struct {
	Auth []byte `json:"auth"`
}

type encodedConfig struct {
	Auths map[string]encodedAuth `json:"auths"`
}

// Keys returns the keys of a credential for some repositories of an upstream, or for all of them.
//
// The kubelet compares a key with the image as text: a path matches every image that begins with it, the longest first.
// So the key for team-a also matches team-ab/app, for which the kubelet then tries both credentials.
func Keys(host string, repositories []string) []string {
	isDockerHub := host == "docker.io" || host == "index.docker.io"
	if isDockerHub {
		host = "docker.io" // The kubelet replaces the other name by this one in images.
	}
	if len(repositories) == 0 {
		if isDockerHub {
			return []string{host, "https://index.docker.io/v1/"} // The second one is for docker and other clients.
		}
		return []string{host}
	}
	keys := make([]string, 0, len(repositories))
	for _, repository := range repositories {
		// The kubelet cuts off one of these, which are API versions to it.
		if strings.HasPrefix(repository, "v1/") || strings.HasPrefix(repository, "v2/") {
			repository = "v2/" + repository
		}
		keys = append(keys, host+"/"+repository)
	}
	return keys
}

// Usable returns an error if a pull secret cannot have credentials from this material. The host is that of the
// registry's API, without a port.
func Usable(material credentials.Material, host string) error {
	if !material.IsStatic() {
		return nil
	}
	_, err := auth(material.Credential, host)
	return err
}

// auth returns the entry of a credential. User names have no colons.
func auth(c credentials.Credential, host string) ([]byte, error) {
	_, isAzure := upstream.ParseACR(host)
	username, password, ok := c.Basic(isAzure)
	if !ok {
		return nil, ErrUnusable
	}
	return []byte(username + ":" + password), nil
}

// Add adds a credential for some repositories of a registry, or for all of them. What is there already stays.
func (a Auths) Add(registry Registry, repositories []string, c credentials.Credential) error {
	entry, err := auth(c, registry.Host)
	if err != nil {
		return err
	}
	for _, key := range Keys(registry.Upstream, repositories) {
		if _, ok := a[key]; !ok {
			a[key] = entry
		}
	}
	return nil
}

// issuedLength is the length that is assumed for a user name and a password that will be issued. Tokens of clouds have
// up to 3 KiB.
const issuedLength = 4 << 10

// ConfigSize returns the length of the pull secret's docker configuration in bytes, once all credentials have been
// issued. Credentials without material do not count.
func (s Secret) ConfigSize() int {
	auths := Auths{}
	for _, registry := range s.Registries {
		for _, credential := range registry.Credentials {
			switch {
			case credential.Material == nil:
			case credential.Material.IsStatic():
				_ = auths.Add(registry, credential.Repositories, credential.Material.Credential) // One that cannot be used has no entry.
			default:
				for _, key := range Keys(registry.Upstream, credential.Repositories) {
					auths[key] = make([]byte, issuedLength)
				}
			}
		}
	}
	return len(auths.Encode())
}

// Keep adds the entries that a deployed pull secret has for some repositories of a registry.
func (a Auths) Keep(registry Registry, repositories []string, deployed Auths) {
	for _, key := range Keys(registry.Upstream, repositories) {
		entry, found := deployed[key]
		if _, ok := a[key]; found && !ok {
			a[key] = entry
		}
	}
}

// Encode returns the entries as a docker configuration. It is deterministic.
func (a Auths) Encode() []byte {
	config := encodedConfig{Auths: make(map[string]encodedAuth, len(a))}
	for key, auth := range a {
		config.Auths[key] = encodedAuth{Auth: auth}
	}
	data, err := json.Marshal(config)
	if err != nil {
		panic(err) // All values are byte slices.
	}
	return data
}

// DecodeAuths is the inverse of [Auths.Encode]. It returns no entries if the configuration is invalid: an owner can
// change the Secret.
func DecodeAuths(data []byte) Auths {
	var config encodedConfig
	if json.Unmarshal(data, &config) != nil {
		return nil
	}
	auths := make(Auths, len(config.Auths))
	for key, auth := range config.Auths {
		auths[key] = auth.Auth
	}
	return auths
}
