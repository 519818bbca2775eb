// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package registries says where a landscape's upstream registries are and who may use them, and runs them.
package registries

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/upstream"
)

const (
	// Private is the registry that wants a token.
	Private = "private." + landscape.Domain + ":5443"
	// Basic is the registry that wants a user name and a password.
	Basic = "basic." + landscape.Domain + ":5445"

	token = "auth." + landscape.Domain + ":5444"
)

// Accounts are the robot users of both registries.
type Accounts struct {
	// Puller is for caches: it may pull.
	Puller upstream.Account
	// Pusher is for tests: it may also push.
	Pusher upstream.Account
}

// Run serves the registries inside the landscape's namespaces until the context ends, and logs who comes to the
// standard output.
func Run(ctx context.Context, l *landscape.Landscape) error {
	accounts, err := EnsureAccounts(l)
	if err != nil {
		return err
	}
	certificate, key, err := l.CA()
	if err != nil {
		return err
	}
	return upstream.Run(ctx, upstream.Options{
		Dir:     filepath.Join(l.Dir(), "upstreams"),
		CA:      upstream.Authority{Certificate: certificate, Key: key},
		Private: upstream.Endpoint{Listen: ":5443", Host: Private},
		Token:   upstream.Endpoint{Listen: ":5444", Host: token},
		Basic:   upstream.Endpoint{Listen: ":5445", Host: Basic},
		Puller:  accounts.Puller,
		Pusher:  accounts.Pusher,
		Log:     os.Stdout,
	})
}

// EnsureAccounts returns the landscape's accounts, with new passwords if it has none yet.
func EnsureAccounts(l *landscape.Landscape) (Accounts, error) {
	path := filepath.Join(l.Dir(), "accounts.json")
	accounts := Accounts{}
	content, err := os.ReadFile(path) // #nosec G304 -- a file of ours.
	if err == nil {
		if err := json.Unmarshal(content, &accounts); err != nil {
			return Accounts{}, fmt.Errorf("could not read %s: %w", path, err)
		}
		return accounts, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Accounts{}, err
	}

	accounts.Puller = upstream.Account{Username: "robot$puller", Password: rand.Text()}
	accounts.Pusher = upstream.Account{Username: "robot$pusher", Password: rand.Text()}
	if content, err = json.Marshal(accounts); err != nil {
		return Accounts{}, err
	}
	return accounts, os.WriteFile(path, content, 0o600)
}
