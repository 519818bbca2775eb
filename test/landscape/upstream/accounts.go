// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// WritePullers writes a file of those who may pull. Registries that follow the file know them, and no others, from
// the next request on; whoever is not in it any more has no use for a token either.
func WritePullers(file string, pullers ...Account) error {
	content, err := json.Marshal(pullers)
	if err != nil {
		return fmt.Errorf("marshalling the users: %w", err)
	}
	// Whoever reads it meanwhile must not see half of it.
	next := file + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("writing the users: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return fmt.Errorf("writing the users: %w", err)
	}
	return nil
}

// accounts are the users of the registries, who may change at any time.
type accounts struct {
	puller, pusher Account
	pullersFile    string
	// htpasswd is a file with the same users, for the basic registry. It is read again when it changes.
	htpasswd string

	mu      sync.Mutex
	version time.Time
	users   []user
}

func newAccounts(o Options) (*accounts, error) {
	a := &accounts{puller: o.Puller, pusher: o.Pusher, pullersFile: o.PullersFile, htpasswd: filepath.Join(o.Dir, Basic, "htpasswd")}
	return a, a.load([]Account{a.puller})
}

// all returns the present users. A file that cannot be read changes nothing.
func (a *accounts) all() []user {
	a.mu.Lock()
	defer a.mu.Unlock()
	if info, err := os.Stat(a.pullersFile); err == nil && !info.ModTime().Equal(a.version) {
		var pullers []Account
		content, err := os.ReadFile(a.pullersFile)
		if err = errors.Join(err, json.Unmarshal(content, &pullers)); err == nil && a.load(pullers) == nil {
			a.version = info.ModTime()
		}
	}
	return a.users
}

func (a *accounts) load(pullers []Account) error {
	users := make([]user, 0, 1+len(pullers))
	users = append(users, user{Account: a.pusher, actions: []string{"pull", "push", "delete"}})
	for _, puller := range pullers {
		users = append(users, user{Account: puller, actions: []string{"pull"}})
	}
	var lines []byte
	for _, u := range users {
		// The cheapest cost: it is paid for every single request.
		hash, err := bcrypt.GenerateFromPassword([]byte(u.Password), bcrypt.MinCost)
		if err != nil {
			return fmt.Errorf("hashing the password of %q: %w", u.Username, err)
		}
		lines = fmt.Appendf(lines, "%s:%s\n", u.Username, hash)
	}
	if err := writeFile(a.htpasswd, lines); err != nil {
		return err
	}
	a.users = users
	return nil
}

// authenticate returns the user whom a user name and a password belong to.
func (a *accounts) authenticate(name, password string) (user, bool) {
	for _, u := range a.all() {
		if u.Username == name && subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1 {
			return u, true
		}
	}
	return user{}, false
}

// followed makes a registry whose users are in the htpasswd file notice that they change.
func (a *accounts) followed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.all()
		next.ServeHTTP(w, r)
	})
}
