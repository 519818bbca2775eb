// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/credentials"
)

// maxFile bounds the size of a credential file.
const maxFile = 1 << 20

// attempts bounds the reads until the files do not change during one.
const attempts = 3

// files is a Source of credentials in files.
type files struct {
	// paths are the files that are read again when one of them changes.
	paths []string
	read  func() (Contents, error)

	mu sync.Mutex
	// state is the signature of the files when they were read last.
	state string
	last  *Contents
	err   error
}

// Read implements Source.
func (f *files) Read() (*Contents, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range attempts {
		state := f.signature()
		if state == f.state {
			break
		}
		// The files of one credential may be replaced one by one; they belong together if none changed during the read.
		read, err := f.read()
		read.Written = f.written()
		if f.signature() != state {
			continue
		}
		f.state, f.err = state, err
		if err == nil {
			f.last = &read
		}
	}
	if f.last == nil && f.err == nil {
		return nil, errors.New("files change too fast")
	}
	return f.last, f.err
}

// written returns when the latest of the files was written.
func (f *files) written() (latest time.Time) {
	for _, path := range f.paths {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(latest) {
			latest = info.ModTime()
		}
	}
	return latest
}

// signature changes whenever a file is written or replaced, but not when it is read.
func (f *files) signature() string {
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

// ConfigFile returns a Source that reads the proxy section of Distribution's configuration file.
func ConfigFile(path string) Source {
	return &files{paths: []string{path}, read: func() (Contents, error) {
		content, err := readFile(path)
		if err != nil {
			return Contents{}, err
		}
		config, err := configuration.Parse(strings.NewReader(string(content)))
		if err != nil {
			return Contents{}, errors.New("invalid configuration file") // The parser may quote a password.
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
		err = fmt.Errorf("%s is larger than %d bytes", filepath.Base(path), maxFile)
	}
	return content, err
}
