// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"net/http"
	"strings"
	"sync"
)

// Account is a user of a registry.
type Account struct {
	Username, Password string
	// MayPush permits pushing and deleting in addition to pulling. Only tokens carry this permission: with basic
	// authentication, every account may push.
	MayPush bool `json:"-"`
	// Repositories are prefixes of the repositories that the account may use, by path segments; none means all.
	Repositories []string `json:",omitempty"`
	// IdentityToken is a refresh token for the token server. A token server accepts refresh tokens if an account has one.
	IdentityToken string `json:",omitempty"`
	// RegistryToken is a bearer token that is valid as long as the account exists.
	RegistryToken string `json:",omitempty"`
}

// mayUse reports whether the account may use a repository.
func (a Account) mayUse(repository string) bool { return len(a.actionsOn(repository)) > 0 }

// actionsOn returns the actions that the token server grants the account on a repository.
func (a Account) actionsOn(repository string) []string {
	if len(a.Repositories) == 0 {
		return a.actions()
	}
	for _, prefix := range a.Repositories {
		if repository == prefix || strings.HasPrefix(repository, prefix+"/") {
			return a.actions()
		}
	}
	return nil
}

// actions returns the actions that the token server grants the account.
func (a Account) actions() []string {
	if a.MayPush {
		return []string{"pull", "push", "delete"}
	}
	return []string{"pull"}
}

// credential is the only account of a registry without Options.Accounts.
type credential struct {
	mu      sync.Mutex
	account Account
}

func (c *credential) set(username, password string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.account = Account{Username: username, Password: password, MayPush: true}
}

func (c *credential) accounts() []Account {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []Account{c.account}
}

// authenticate returns the account with the user name and the password of a request.
func authenticate(accounts []Account, r *http.Request) (Account, bool) {
	username, password, ok := r.BasicAuth()
	if !ok {
		return Account{}, false
	}
	for _, account := range accounts {
		if account.Username == username && account.Password == password && password != "" {
			return account, true
		}
	}
	return Account{}, false
}
