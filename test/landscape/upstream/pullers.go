// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/larder-project/larder/test/upstreamsim"
)

// WritePullers writes the file of the accounts that may pull. Registries that follow the file accept these accounts,
// and reject all others and their tokens, from the next request on.
func WritePullers(file string, pullers ...upstreamsim.Account) error {
	content, err := json.Marshal(pullers)
	if err != nil {
		return fmt.Errorf("encode pullers: %w", err)
	}
	// Rename a complete file, so that registries never read a part of one.
	next := file + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("write pullers: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return fmt.Errorf("write pullers: %w", err)
	}
	return nil
}

// accounts are the accounts of the registries.
type accounts struct {
	pusher upstreamsim.Account
	file   string

	mu      sync.Mutex
	pullers []upstreamsim.Account
	version time.Time
}

func newAccounts(o Options) *accounts {
	pusher := o.Pusher
	pusher.MayPush = true
	return &accounts{pusher: pusher, file: o.PullersFile, pullers: []upstreamsim.Account{o.Puller}}
}

// all returns the current accounts. An unreadable file changes nothing.
func (a *accounts) all() []upstreamsim.Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	if info, err := os.Stat(a.file); err == nil && !info.ModTime().Equal(a.version) {
		var pullers []upstreamsim.Account
		content, err := os.ReadFile(a.file)
		if errors.Join(err, json.Unmarshal(content, &pullers)) == nil {
			a.pullers, a.version = pullers, info.ModTime()
		}
	}
	return append([]upstreamsim.Account{a.pusher}, a.pullers...)
}
