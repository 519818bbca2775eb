// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package landscape

import (
	"crypto/rand"
	"os"
	"path/filepath"
)

// Users of the upstream registries.
const (
	pullerName = "robot$puller"
	pusherName = "robot$pusher"
)

// CreateAccounts makes up the passwords of the upstream registries' users.
func (l *Landscape) CreateAccounts() error {
	for _, user := range []string{pullerName, pusherName} {
		// The punctuation is what careless programs stumble over.
		password := rand.Text() + `"#%:'`
		if err := os.WriteFile(l.passwordFile(user), []byte(password), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Puller returns the user of the upstream registries that may only pull.
func (l *Landscape) Puller() (username, password string, err error) {
	return l.account(pullerName)
}

// Pusher returns the user of the upstream registries that may push, too.
func (l *Landscape) Pusher() (username, password string, err error) {
	return l.account(pusherName)
}

// PullersFile returns the file with the users who may pull. Without it there is only Puller. The upstream registries
// follow it while they run.
func (l *Landscape) PullersFile() string {
	return filepath.Join(l.UpstreamsDir(), "pullers.json")
}

// UpstreamsDir returns the folder of the upstream registries.
func (l *Landscape) UpstreamsDir() string { return filepath.Join(l.Dir(), "upstreams") }

func (l *Landscape) account(user string) (username, password string, err error) {
	content, err := os.ReadFile(l.passwordFile(user))
	return user, string(content), err
}

func (l *Landscape) passwordFile(user string) string {
	return filepath.Join(l.PKIDir(), user+".password")
}
