// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"net/http"
	"sync"
)

// Account is a user of a registry.
type Account struct {
	Username, Password string
	// MayPush permits pushing and deleting in addition to pulling. Only tokens carry permissions: with basic
	// authentication, every account may do everything.
	MayPush bool `json:"-"`
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
		if account.Username == username && account.Password == password {
			return account, true
		}
	}
	return Account{}, false
}
