// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/utils/clock"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
)

// Keyring hands out the active credentials. It implements remote.Credentials.
type Keyring struct {
	source  Source
	clock   clock.Clock
	log     logrus.FieldLogger
	observe func(Snapshot)
	issuers Issuers

	// serves reports whether the credentials are those for a repository; nil means that they are for all.
	serves func(repository string) bool
	// woken ends a wait of Run.
	woken chan struct{}

	mu        sync.Mutex
	active    *entry    // nil until the source could be read
	candidate *entry    // nil unless it is to replace active
	missing   error     // nil if the source can be read
	since     time.Time // when the source could, or could not, be read last
}

// entry is a set of credentials with the result of its last check.
type entry struct {
	set Set
	// wanted is since when the source has the set, as far as its files show: a restart of the process does not change that.
	wanted  time.Time
	state   credentials.State
	since   time.Time
	status  int
	message string

	due     time.Time     // time of the next check
	delay   time.Duration // before the next check
	checked time.Time     // time of the last check

	renewer *issuer.Renewer // nil if the set has its credentials
}

var errMissing = errors.New("cannot read the credential")

// Options are the parts of a Keyring.
type Options struct {
	Source Source
	Clock  clock.Clock
	Log    logrus.FieldLogger
	// Observe is called with each change of the state, and must not block. It may be nil.
	Observe func(Snapshot)
	// Issuers returns the issuer of credentials from material. It may be nil if the source has none.
	Issuers Issuers
}

// New returns a Keyring.
func New(o Options) *Keyring {
	k := &Keyring{source: o.Source, clock: o.Clock, log: o.Log, observe: o.Observe, issuers: o.Issuers, woken: make(chan struct{}, 1)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	return k
}

// For implements remote.Credentials.
func (k *Keyring) For(ctx context.Context, repository string) (string, credentials.Credential, error) {
	k.mu.Lock()
	k.refresh()
	if k.active == nil {
		defer k.mu.Unlock()
		return "", credentials.Credential{}, k.missing
	}
	active := k.active.holder()
	k.mu.Unlock()

	set, err := active.usable(ctx)
	if err != nil {
		return "", credentials.Credential{}, err
	}
	return set.For(ctx, repository)
}

// Rejected expedites the next checks after the upstream rejected the active credentials: of those, and before them of
// the candidate, which may work by now.
func (k *Keyring) Rejected() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.active == nil {
		return
	}
	k.expedite(k.active)
	if k.candidate != nil {
		k.expedite(k.candidate)
	}
}

func (k *Keyring) expedite(e *entry) {
	if due := e.checked.Add(rejectedPullInterval); due.Before(e.due) {
		e.due = due
		k.wake()
	}
}

// refresh reads the source. The caller holds the lock.
func (k *Keyring) refresh() {
	contents, err := k.source.Read()
	changed := (err == nil) != (k.missing == nil)
	if changed {
		k.missing, k.since = nil, k.clock.Now()
	}
	if changed && err != nil {
		// The original may quote what it could not parse.
		k.missing = errMissing
		k.log.Error("Failed to read credential")
	}
	if contents != nil && k.adopt(*contents) || changed {
		k.notify()
	}
}

// adopt applies the contents of the source, and reports whether they are a change.
func (k *Keyring) adopt(contents Contents) bool {
	wanted := contents.Wanted
	k.replaceTokens(contents)
	switch {
	case k.active == nil && contents.Previous != nil && !contents.Previous.sameCredentials(wanted):
		// The process started during a rotation.
		k.active, k.candidate = k.newEntry(*contents.Previous, time.Time{}), k.newEntry(wanted, contents.Written)
	case k.active == nil:
		k.active = k.newEntry(wanted, contents.Written)
	case k.active.set.sameCredentials(wanted):
		// The candidate is no longer wanted, or the active set has another name now.
		if k.candidate == nil && k.active.set.Name == wanted.Name {
			return false
		}
		k.active.set, k.candidate = wanted, nil
	case k.candidate != nil && k.candidate.set.sameCredentials(wanted) && k.candidate.set.Name == wanted.Name:
		return false
	default:
		k.candidate = k.newEntry(wanted, contents.Written)
		k.log.WithField("secret", wanted.Name).Info("Checking candidate")
	}
	k.wake()
	return true
}

func (k *Keyring) newEntry(set Set, written time.Time) *entry {
	now := k.clock.Now()
	if written.IsZero() || written.After(now) {
		written = now
	}
	return &entry{
		set: set, wanted: written, state: credentials.StatePending, since: now, due: now, message: "not checked against the upstream yet",
		renewer: k.newRenewer(set),
	}
}

func (k *Keyring) wake() {
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

func (k *Keyring) notify() {
	if k.observe != nil && !k.anonymous() {
		k.observe(k.snapshot())
	}
}
