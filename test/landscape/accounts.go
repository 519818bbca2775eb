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

// CreateAccounts creates random passwords for the users of the upstream registries.
func (l *Landscape) CreateAccounts() error {
	for _, user := range []string{pullerName, pusherName} {
		// Careless programs mishandle the punctuation.
		password := rand.Text() + `"#%:'`
		if err := os.WriteFile(l.passwordFile(user), []byte(password), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Puller returns the user of the upstream registries that can only pull.
func (l *Landscape) Puller() (username, password string, err error) {
	return l.account(pullerName)
}

// Pusher returns the user of the upstream registries that can pull and push.
func (l *Landscape) Pusher() (username, password string, err error) {
	return l.account(pusherName)
}

// PullersFile returns the file of the users that can pull; without it, there is only Puller. The upstream registries
// follow it while they run.
func (l *Landscape) PullersFile() string {
	return filepath.Join(l.UpstreamsDir(), "pullers.json")
}

// UpstreamsDir returns the directory of the upstream registries.
func (l *Landscape) UpstreamsDir() string { return filepath.Join(l.Dir(), "upstreams") }

func (l *Landscape) account(user string) (username, password string, err error) {
	content, err := os.ReadFile(l.passwordFile(user))
	return user, string(content), err
}

func (l *Landscape) passwordFile(user string) string {
	return filepath.Join(l.PKIDir(), user+".password")
}
