// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/larder-project/larder/pkg/credentials"
)

// dockerConfigs are the names of Docker configurations in a directory; later ones win.
var dockerConfigs = []string{".dockerconfigjson", "config.json"}

// directory reads the credentials for a host from a directory.
type directory struct {
	dir, host string
	// prefix is that of the names of files, see credentials.Prefix. Only without one, Docker configurations are read.
	prefix string
}

// Directory returns a Source that reads the credentials for a host from the files in a directory whose names have a
// prefix, which may be empty.
func Directory(dir, prefix, host string) Source {
	d := directory{dir: dir, prefix: prefix, host: host}
	f := &files{read: d.read}
	for _, name := range []string{credentials.NameKey, credentials.UsernameKey, credentials.PasswordKey, credentials.MaterialKey} {
		f.paths = append(f.paths, d.path(name), d.path(credentials.PreviousPrefix+name))
	}
	for _, name := range d.dockerConfigs() {
		f.paths = append(f.paths, d.path(name))
	}
	return f
}

func (d directory) path(name string) string { return filepath.Join(d.dir, d.prefix+name) }

func (d directory) dockerConfigs() []string {
	if d.prefix != "" {
		return nil
	}
	return dockerConfigs
}

func (d directory) read() (Contents, error) {
	found := map[string]credentials.Credential{}
	for _, name := range d.dockerConfigs() {
		content, err := readFile(d.path(name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = parseDockerConfig(content, d.host, found)
		}
		if err != nil {
			return Contents{}, err
		}
	}
	wanted := Set{Name: d.readName(""), scopes: found}
	material, err := d.readMaterial("")
	switch {
	case err == nil && material.IsStatic():
		found[""] = material.Credential
	case err == nil:
		wanted = Set{Name: wanted.Name, material: material}
	case !errors.Is(err, os.ErrNotExist) || len(found) == 0:
		return Contents{}, err
	}
	contents := Contents{Wanted: wanted}
	// An incomplete previous credential only means that there is nothing to fall back on.
	if material, err := d.readMaterial(credentials.PreviousPrefix); err == nil {
		previous := Set{Name: d.readName(credentials.PreviousPrefix), material: material}
		if material.IsStatic() {
			previous = NewSet(previous.Name, material.Credential)
		}
		contents.Previous = &previous
	}
	return contents, nil
}

// readMaterial reads a user name and a password, or other material.
func (d directory) readMaterial(prefix string) (credentials.Material, error) {
	content, err := readFile(d.path(prefix + credentials.MaterialKey))
	if errors.Is(err, os.ErrNotExist) {
		c, err := d.readPair(prefix)
		return credentials.Static(c), err
	}
	if err != nil {
		return credentials.Material{}, err
	}
	return credentials.DecodeMaterial(content)
}

// readPair reads a user name and a password.
func (d directory) readPair(prefix string) (credentials.Credential, error) {
	username, err := readFile(d.path(prefix + credentials.UsernameKey))
	if err != nil {
		return credentials.Credential{}, err
	}
	password, err := readFile(d.path(prefix + credentials.PasswordKey))
	if err != nil {
		return credentials.Credential{}, fmt.Errorf("credential has a user name but no password: %v", err) //nolint:errorlint // No credential at all may be fine, half of one is not.
	}
	c := credentials.Credential{Username: string(username), Password: string(password)}
	return c, c.Validate()
}

// readName reads the name of a set, "" if it has none.
func (d directory) readName(prefix string) string {
	name, err := readFile(d.path(prefix + credentials.NameKey))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

// parseDockerConfig adds the credentials for a host in a Docker configuration to found.
func parseDockerConfig(content []byte, host string, found map[string]credentials.Credential) error {
	var config struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
			RegistryToken string `json:"registrytoken"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(content, &config); err != nil {
		return errors.New("invalid Docker configuration") // The parser may quote a password.
	}
	for name, entry := range config.Auths {
		scope, ok := scopeOf(name, host)
		if !ok {
			continue
		}
		c := credentials.Credential{Username: entry.Username, Password: entry.Password}
		if entry.Auth != "" {
			var ok bool
			if c.Username, c.Password, ok = credentials.ParseBasicAuth(entry.Auth); !ok {
				return errors.New("auth in Docker configuration is not user:password in Base64")
			}
		}
		switch {
		case entry.RegistryToken != "":
			c = credentials.Credential{RegistryToken: entry.RegistryToken}
		case entry.IdentityToken != "":
			c = credentials.Credential{Username: c.Username, IdentityToken: entry.IdentityToken}
		}
		if err := c.Validate(); err != nil {
			return err
		}
		found[scope] = c
	}
	return nil
}

// scopeOf returns the path of a key of auths if it is for the host. Keys may be URLs, as docker login writes them.
func scopeOf(name, host string) (string, bool) {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	registry, path, _ := strings.Cut(name, "/")
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	if registry == "docker.io" || registry == "index.docker.io" {
		registry = "registry-1.docker.io"
	}
	return path, strings.EqualFold(registry, host)
}
