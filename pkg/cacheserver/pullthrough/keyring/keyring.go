// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package keyring reads the credentials for an upstream from places that may change at any time.
//
// Nothing watches these places: credentials are needed only when the upstream is asked, which is rare, and then a few
// calls of stat tell whether anything has changed. What cannot be read, or is half written, changes nothing: the last
// good credential stays. If there never was a good one, requests fail; a credential that is missing or spoiled never
// silently becomes anonymous access.
//
// A Directory holds the files username and password, as a mounted Secret does, or a docker configuration in
// config.json or .dockerconfigjson, whose auths name hosts with an optional path: the longest path wins. With both,
// the two files are for whatever no path matches.
package keyring

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/docker/docker-credential-helpers/client"

	"github.com/larder-project/larder/pkg/credentials"
)

// maxFile bounds what is read of a credential file.
const maxFile = 1 << 20

// set is a set of credentials by scope, which is a path of repositories; "" is for all others.
type set map[string]credentials.Credential

// lookup returns the credential with the longest path that holds the repository.
func (s set) lookup(repository string) (string, credentials.Credential) {
	for scope := repository; scope != ""; {
		if c, ok := s[scope]; ok {
			return scope, c
		}
		cut := strings.LastIndexByte(scope, '/')
		scope = scope[:max(cut, 0)]
	}
	return "", s[""]
}

// Files is a source of credentials in files.
type Files struct {
	// paths are the files whose change means that they have to be read again.
	paths []string
	read  func() (set, error)

	mu    sync.Mutex
	state string
	last  set
	err   error
}

// attempts is how often files are read until they do not change meanwhile.
const attempts = 3

// For implements upstream.Credentials.
func (f *Files) For(_ context.Context, repository string) (string, credentials.Credential, error) {
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
			f.last = read
		}
	}
	if f.last == nil {
		return "", credentials.Credential{}, errors.Join(errors.New("no credential has been read yet"), f.err)
	}
	scope, c := f.last.lookup(repository)
	return scope, c, nil
}

// signature changes whenever a file is written or replaced.
func (f *Files) signature() string {
	var out strings.Builder
	for _, path := range f.paths {
		info, err := os.Stat(path)
		if err != nil {
			out.WriteString("-;")
			continue
		}
		fmt.Fprintf(&out, "%d,%d,%v;", info.ModTime().UnixNano(), info.Size(), info.Sys())
	}
	return out.String()
}

// Directory returns the credentials in a directory for a host.
func Directory(dir, host string) *Files {
	file := func(name string) string { return filepath.Join(dir, name) }
	f := &Files{paths: []string{
		file("username"), file("password"), file("config.json"), file(".dockerconfigjson"),
	}}
	f.read = func() (set, error) {
		found := set{}
		for _, name := range []string{".dockerconfigjson", "config.json"} {
			content, err := readFile(file(name))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil {
				err = parseDockerConfig(content, host, found)
			}
			if err != nil {
				return nil, err
			}
		}
		username, err := readFile(file("username"))
		if errors.Is(err, os.ErrNotExist) && len(found) > 0 {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		password, err := readFile(file("password"))
		if err != nil {
			return nil, err
		}
		c := credentials.Credential{Username: string(username), Password: string(password)}
		found[""] = c
		return found, check(c)
	}
	return f
}

// ConfigFile returns the credential in the proxy section of Distribution's configuration file.
func ConfigFile(path string) *Files {
	return &Files{paths: []string{path}, read: func() (set, error) {
		content, err := readFile(path)
		if err != nil {
			return nil, err
		}
		config, err := configuration.Parse(strings.NewReader(string(content)))
		if err != nil {
			return nil, errors.New("the configuration file cannot be parsed") // The parser may quote a password.
		}
		c := credentials.Credential{Username: config.Proxy.Username, Password: config.Proxy.Password}
		if c == (credentials.Credential{}) {
			return set{}, nil
		}
		return set{"": c}, check(c)
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

// check refuses what HTTP's basic authentication cannot carry.
func check(c credentials.Credential) error {
	if c.Username == "" || c.Password == "" {
		return errors.New("a credential needs a user name and a password")
	}
	if strings.ContainsFunc(c.Username, func(r rune) bool { return r == ':' || r < ' ' || r == 0x7f }) {
		return errors.New("a user name must not have colons or control characters")
	}
	return nil
}

// parseDockerConfig adds the credentials for a host in a docker configuration to a set.
func parseDockerConfig(content []byte, host string, found set) error {
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
		if err := check(c); err != nil {
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

// For implements upstream.Credentials.
func (s Static) For(context.Context, string) (string, credentials.Credential, error) {
	return "", credentials.Credential(s), nil
}

// Exec asks a docker credential helper, as the exec section of Distribution's proxy does.
type Exec struct {
	Command string
	Host    string
	// Lifetime is how long an answer is used. Nil means for ever, zero asks each time.
	Lifetime *time.Duration

	mu      sync.Mutex
	last    *credentials.Credential
	expires time.Time
}

// For implements upstream.Credentials.
func (e *Exec) For(context.Context, string) (string, credentials.Credential, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last != nil && (e.Lifetime == nil || time.Now().Before(e.expires)) {
		return "", *e.last, nil
	}
	answer, err := client.Get(client.NewShellProgramFunc(e.Command), e.Host)
	if err == nil {
		c := credentials.Credential{Username: answer.Username, Password: answer.Secret}
		if err = check(c); err == nil {
			e.last = &c
		}
	}
	if e.last == nil {
		return "", credentials.Credential{}, errors.New("the credential command failed")
	}
	if e.Lifetime != nil {
		e.expires = time.Now().Add(*e.Lifetime)
	}
	return "", *e.last, nil
}
