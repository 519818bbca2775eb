// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"context"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
)

// Checker checks credentials against an upstream. A remote.Client is one.
type Checker interface {
	// Check returns nil if the upstream accepts the candidate in place of the active credentials, and an error with the
	// reason remote.Unauthorized if it rejects it. Any other error means that the result is unknown.
	Check(ctx context.Context, candidate, active remote.CredentialSet) error
	// Retain forgets all other credentials with their tokens.
	Retain(set remote.CredentialSet)
}

const (
	// pollInterval is how often the source is read without pulls.
	pollInterval = 5 * time.Second
	// confirmInterval is the time until an accepted set is checked again, so that a rejection shows before a pull
	// fails.
	confirmInterval = 10 * time.Minute
	// rejectedPullInterval is the least time between two checks of a set that the upstream rejects pulls with.
	rejectedPullInterval = 15 * time.Second
	// A set is checked again at intervals that double, from and up to these, while the result is unknown or a
	// rejection.
	minUnknownInterval, maxUnknownInterval   = time.Second, time.Minute
	minRejectedInterval, maxRejectedInterval = 30 * time.Second, 10 * time.Minute
	// challengeTimeout is how long a candidate waits for the upstream to ask for it.
	challengeTimeout = 10 * time.Minute
)

// Run checks credentials until the context ends.
func (k *Keyring) Run(ctx context.Context, checker Checker) {
	for ctx.Err() == nil {
		wait := k.step(ctx, checker)
		if wait <= 0 {
			continue
		}
		timer := k.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-k.woken:
		case <-timer.C():
		}
		timer.Stop()
	}
}

// step makes one check if one is due, and returns the time until the next.
func (k *Keyring) step(ctx context.Context, checker Checker) time.Duration {
	k.mu.Lock()
	k.refresh()
	if e := k.renewalDue(); e != nil {
		k.mu.Unlock()
		k.renew(ctx, checker, e)
		return 0
	}
	target := k.dueNow()
	if target == nil {
		defer k.mu.Unlock()
		return k.untilDue()
	}
	candidate, active := target.holder(), k.active.holder()
	k.mu.Unlock()

	checked, err := k.check(ctx, checker, candidate, active)
	if ctx.Err() != nil {
		return 0
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if target != k.active && target != k.candidate {
		return 0 // It was replaced meanwhile.
	}
	if k.record(target, err); target == k.candidate && target.state == credentials.StateActive {
		k.active, k.candidate = target, nil
		checker.Retain(checked)
	}
	k.notify()
	return k.untilDue()
}

// check checks a set in place of the active one, and returns it with its credentials.
func (k *Keyring) check(ctx context.Context, checker Checker, candidate, active holder) (Set, error) {
	checked, err := candidate.issued(ctx)
	if err != nil {
		return Set{}, err
	}
	// An active set without credentials has nothing in common with another.
	current, err := active.issued(ctx)
	if err != nil {
		current = Set{}
	}
	checked, current = k.serving(checked), k.serving(current)
	return checked, checker.Check(ctx, checked, current)
}

// serving returns a set that serves the repositories of the keyring.
func (k *Keyring) serving(set Set) Set {
	set.serves = k.serves
	return set
}

// dueNow returns an entry whose check is due, the candidate first, or nil.
func (k *Keyring) dueNow() *entry {
	now := k.clock.Now()
	for _, e := range k.checkable() {
		if !e.due.After(now) {
			return e
		}
	}
	return nil
}

func (k *Keyring) untilDue() time.Duration {
	wait := pollInterval
	for _, e := range k.checkable() {
		wait = min(wait, e.due.Sub(k.clock.Now()))
		if e.renewer != nil {
			wait = min(wait, e.renewer.Due().Sub(k.clock.Now()))
		}
	}
	return wait
}

// checkable returns the entries to check. Active anonymous access needs no check.
func (k *Keyring) checkable() []*entry {
	var all []*entry
	if k.candidate != nil {
		all = append(all, k.candidate)
	}
	if k.active != nil && !k.active.set.isAnonymous() {
		all = append(all, k.active)
	}
	return all
}

// record takes the result of a check, and schedules the next one.
func (k *Keyring) record(e *entry, err error) {
	if remote.Is(err, remote.NotChallenged) && k.acceptable(e) {
		err = nil
	}
	before := e.state
	shortest, longest := minUnknownInterval, maxUnknownInterval
	switch {
	case err == nil:
		e.state, e.status, e.message = credentials.StateActive, 0, ""
		shortest, longest = confirmInterval, confirmInterval
	case remote.Is(err, remote.Unauthorized), issuer.Rejected(err):
		e.state, e.status, e.message = credentials.StateRejected, remote.StatusOf(err), err.Error()
		shortest, longest = minRejectedInterval, maxRejectedInterval
	case isNotIssued(err):
		// The last known result was about a credential that has expired.
		e.state, e.status, e.message = credentials.StatePending, 0, err.Error()
	case e.state == credentials.StatePending:
		// Later, an unknown result does not change the last known one.
		e.status, e.message = remote.StatusOf(err), err.Error()
	}
	if e.state != before {
		e.delay = 0
	}
	e.checked = k.clock.Now()
	e.delay = min(max(2*e.delay, shortest), longest)
	e.due = e.checked.Add(e.delay)
	if e.renewer != nil && remote.Is(err, remote.Unauthorized) {
		e.renewer.RenewBy(e.due) // Check a new credential next time; the upstream may have revoked this one.
	}
	if e.state == before {
		return
	}

	e.since = e.checked
	log := k.log.WithField("secret", e.set.Name)
	switch e.state {
	case credentials.StateActive:
		log.Info("Upstream accepted credential")
	case credentials.StatePending:
		log.WithField("cause", e.message).Error("Credential expired")
	default:
		log.WithField("cause", e.message).Error("Upstream rejected credential")
		if e == k.active && k.candidate != nil {
			k.expedite(k.candidate)
		}
	}
}

// acceptable reports whether a credential that the upstream does not ask for counts as accepted. A check cannot tell a
// valid credential from a wrong one there, so the active one does until the upstream rejects a pull. A candidate waits
// for a pull that proves more while there is a working credential to lose, but not for ever: there may be no pull, or
// an upstream that never asks.
func (k *Keyring) acceptable(e *entry) bool {
	if e == k.active || k.active.state == credentials.StateRejected {
		return true
	}
	return e.state == credentials.StatePending && k.clock.Since(e.since) >= challengeTimeout
}
