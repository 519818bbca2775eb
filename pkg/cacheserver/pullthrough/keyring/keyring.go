// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package keyring reads the credentials for an upstream from places that may change at any time.
//
// Nothing watches these places: whoever wants to know asks, and then a few calls of stat tell whether anything has
// changed. What cannot be read, or is half written, changes nothing: the last good credential stays. If there never was
// a good one, that is an error; a credential that is missing or spoiled never silently becomes anonymous access.
//
// A Directory holds the files username and password, as a mounted Secret does, or a docker configuration in
// config.json or .dockerconfigjson, whose auths name hosts with an optional path: the longest path wins. With both,
// the two files are for whatever no path matches. The file name may say what the whole is called, and files with the
// prefix "previous." may hold what was used before. Whether and when the one takes the place of the other is decided
// by package staging.
package keyring

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/distribution/distribution/v3/configuration"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/credentials"
)

// maxFile bounds what is read of a credential file.
const maxFile = 1 << 20

// Contents are the credentials that files hold.
type Contents struct {
	// Wanted are to be used.
	Wanted Set
	// Previous are to be used until the upstream has accepted those that are wanted; nil for none.
	Previous *Set
}

// Files is a source of credentials in files.
type Files struct {
	// paths are the files whose change means that they have to be read again.
	paths []string
	read  func() (Contents, error)

	mu    sync.Mutex
	state string
	last  *Contents
	err   error
}

// attempts is how often files are read until they do not change meanwhile.
const attempts = 3

// Read returns what the files held when they were last complete and, if they are no longer, what is wrong with them.
// Without any contents there is an error, and the contents must not be used.
func (f *Files) Read() (*Contents, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range attempts {
		state := f.signature()
		if state == f.state {
			break
		}
		// Files of one credential may be replaced one after the other; only what did not change meanwhile belongs together.
		read, err := f.read()
		if f.signature() != state {
			continue
		}
		f.state, f.err = state, err
		if err == nil {
			f.last = &read
		}
	}
	if f.last == nil && f.err == nil {
		return nil, errors.New("the files change too fast")
	}
	return f.last, f.err
}

// signature changes whenever a file is written or replaced, and not when it is read.
func (f *Files) signature() string {
	var out strings.Builder
	for _, path := range f.paths {
		info, err := os.Stat(path)
		if err != nil {
			out.WriteString("-;")
			continue
		}
		inode, changed := store.Identity(info)
		fmt.Fprintf(&out, "%d,%d,%d,%d;", info.Size(), info.ModTime().UnixNano(), changed, inode)
	}
	return out.String()
}

// Directory returns the credentials in a directory for a host.
func Directory(dir, host string) *Files {
	d := directory{dir: dir, host: host}
	f := &Files{read: d.read}
	for _, name := range []string{credentials.NameKey, credentials.UsernameKey, credentials.PasswordKey} {
		f.paths = append(f.paths, d.path(name), d.path(credentials.PreviousPrefix+name))
	}
	for _, name := range dockerConfigs {
		f.paths = append(f.paths, d.path(name))
	}
	return f
}

// dockerConfigs are the names of docker configurations in a directory; the later ones win.
var dockerConfigs = []string{".dockerconfigjson", "config.json"}

type directory struct{ dir, host string }

func (d directory) path(name string) string { return filepath.Join(d.dir, name) }

func (d directory) read() (Contents, error) {
	found := map[string]credentials.Credential{}
	for _, name := range dockerConfigs {
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
	c, err := d.pair("")
	if err == nil {
		found[""] = c
	} else if !errors.Is(err, os.ErrNotExist) || len(found) == 0 {
		return Contents{}, err
	}
	contents := Contents{Wanted: Set{Name: d.name(""), scopes: found}}
	// Without the previous credential there is one to fall back on less, which is no reason not to use the other.
	if c, err := d.pair(credentials.PreviousPrefix); err == nil {
		contents.Previous = &Set{Name: d.name(credentials.PreviousPrefix), scopes: map[string]credentials.Credential{"": c}}
	}
	return contents, nil
}

// pair reads a user name and a password.
func (d directory) pair(prefix string) (credentials.Credential, error) {
	username, err := readFile(d.path(prefix + credentials.UsernameKey))
	if err != nil {
		return credentials.Credential{}, err
	}
	password, err := readFile(d.path(prefix + credentials.PasswordKey))
	if err != nil {
		// Nothing at all may be fine, half of it is not.
		return credentials.Credential{}, fmt.Errorf("there is a user name without a password: %v", err) //nolint:errorlint // It must not look as if there were nothing.
	}
	c := credentials.Credential{Username: string(username), Password: string(password)}
	return c, c.Validate()
}

// name reads what the credentials are called.
func (d directory) name(prefix string) string {
	name, err := readFile(d.path(prefix + credentials.NameKey))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

// ConfigFile returns the credential in the proxy section of Distribution's configuration file.
func ConfigFile(path string) *Files {
	return &Files{paths: []string{path}, read: func() (Contents, error) {
		content, err := readFile(path)
		if err != nil {
			return Contents{}, err
		}
		config, err := configuration.Parse(strings.NewReader(string(content)))
		if err != nil {
			return Contents{}, errors.New("the configuration file cannot be parsed") // The parser may quote a password.
		}
		c := credentials.Credential{Username: config.Proxy.Username, Password: config.Proxy.Password}
		if c == (credentials.Credential{}) {
			return Contents{}, nil
		}
		return Contents{Wanted: NewSet("", c)}, c.Validate()
	}}
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", filepath.Base(path), maxFile)
	}
	return content, err
}

// parseDockerConfig adds the credentials for a host in a docker configuration to a set.
func parseDockerConfig(content []byte, host string, found map[string]credentials.Credential) error {
	var config struct {
		Auths map[string]struct {
			Auth     string `json:"auth"`
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(content, &config); err != nil {
		return errors.New("a docker configuration cannot be parsed")
	}
	for name, entry := range config.Auths {
		scope, ok := scopeOf(name, host)
		if !ok {
			continue
		}
		c := credentials.Credential{Username: entry.Username, Password: entry.Password}
		if entry.Auth != "" {
			decoded, err := base64.StdEncoding.DecodeString(entry.Auth)
			if err != nil {
				return errors.New("an auth in a docker configuration is not base64")
			}
			c.Username, c.Password, _ = strings.Cut(string(decoded), ":")
		}
		if err := c.Validate(); err != nil {
			return err
		}
		found[scope] = c
	}
	return nil
}

// scopeOf returns the path of a key of auths, if it is for the host. Keys may be URLs, as docker login writes them.
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

// Static is a credential that never changes.
type Static credentials.Credential

// Read returns the credential; the zero value means anonymous access.
func (s Static) Read() (*Contents, error) {
	if s == (Static{}) {
		return &Contents{}, nil
	}
	return &Contents{Wanted: NewSet("", credentials.Credential(s))}, nil
}
