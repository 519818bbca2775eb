// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// maxPaid bounds the repositories with credentials of clients, and maxPayers those of one repository.
	maxPaid   = 1 << 10
	maxPayers = 4
)

// Guests has the credentials of clients while they are granted, by repository, to pay for what the credential of the
// cache cannot fetch. It implements remote.Guests.
type Guests struct {
	mu           sync.Mutex
	byRepository *simplelru.LRU[string, []payer] // the latest first
	now          func() time.Time
	// rejected is called without the lock. It is nil until New has returned.
	rejected func(holder)
}

type payer struct {
	id         identity
	credential credentials.Credential
	until      time.Time
}

// NewGuests returns an empty Guests, for New.
func NewGuests() *Guests {
	byRepository, _ := simplelru.NewLRU[string, []payer](maxPaid, nil) // It fails for sizes below 1 only.
	return &Guests{byRepository: byRepository, now: time.Now}
}

// add adds the credential of a client that is granted a repository until a time.
func (g *Guests) add(repository string, p payer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, _ := g.byRepository.Get(repository)
	if len(known) > 0 && known[0] == p {
		return
	}
	latest := make([]payer, 1, maxPayers)
	latest[0] = p
	for _, other := range known {
		if other.id != p.id && len(latest) < maxPayers {
			latest = append(latest, other)
		}
	}
	g.byRepository.Add(strings.Clone(repository), latest)
}

// For implements remote.Guests.
func (g *Guests) For(repository string, tried []credentials.Credential) (credentials.Credential, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, _ := g.byRepository.Get(repository)
	for _, p := range known {
		if g.now().Before(p.until) && !slices.Contains(tried, p.credential) {
			return p.credential, true
		}
	}
	return credentials.Credential{}, false
}

// Rejected implements remote.Guests. The client has to prove its permission again; without a credential, the repository
// has to prove that it is public.
func (g *Guests) Rejected(repository string, c credentials.Credential) {
	if c == (credentials.Credential{}) {
		if g.rejected != nil {
			g.rejected(holder{repository: repository})
		}
		return
	}
	g.mu.Lock()
	known, _ := g.byRepository.Peek(repository)
	i := slices.IndexFunc(known, func(p payer) bool { return p.credential == c })
	var id identity
	if i >= 0 {
		id = known[i].id
		g.set(repository, slices.Delete(slices.Clone(known), i, i+1))
	}
	g.mu.Unlock()
	if i >= 0 && g.rejected != nil {
		g.rejected(holder{client: id, repository: repository})
	}
}

// remove drops the credential of a client for a repository.
func (g *Guests) remove(repository string, id identity) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, _ := g.byRepository.Peek(repository)
	if slices.ContainsFunc(known, func(p payer) bool { return p.id == id }) {
		g.set(repository, slices.DeleteFunc(slices.Clone(known), func(p payer) bool { return p.id == id }))
	}
}

// expire drops the credentials whose grants have ended.
func (g *Guests) expire(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, repository := range g.byRepository.Keys() {
		known, _ := g.byRepository.Peek(repository)
		ended := func(p payer) bool { return !now.Before(p.until) }
		if slices.ContainsFunc(known, ended) {
			g.set(repository, slices.DeleteFunc(slices.Clone(known), ended))
		}
	}
}

// set replaces the credentials for a repository. The caller holds the lock.
func (g *Guests) set(repository string, payers []payer) {
	if len(payers) == 0 {
		g.byRepository.Remove(repository)
		return
	}
	g.byRepository.Add(repository, payers)
}
