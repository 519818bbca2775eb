// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/issuer"
)

// Issuers returns the issuer of credentials from material.
type Issuers func(credentials.Material) (issuer.Issuer, error)

// firstIssueTimeout bounds how long a request waits for the first credential of a set, for example when the process has
// just started.
const firstIssueTimeout = 10 * time.Second

// notIssuedError means that a set has no valid credential, because none could be issued.
type notIssuedError struct{ cause error }

func (e *notIssuedError) Error() string { return "issuing failed: " + e.cause.Error() }

func (e *notIssuedError) Unwrap() error { return e.cause }

// Temporary reports whether a credential may be issued later without a change by the owner, for example because the
// service is down.
func (e *notIssuedError) Temporary() bool { return !issuer.Rejected(e.cause) }

func isNotIssued(err error) bool {
	var e *notIssuedError
	return errors.As(err, &e)
}

// holder is the set of an entry with the source of its credential.
type holder struct {
	set     Set
	renewer *issuer.Renewer
}

// holder returns what is needed of an entry without the lock.
func (e *entry) holder() holder { return holder{set: e.set, renewer: e.renewer} }

// usable returns the set with its credentials, as long as they are valid.
func (h holder) usable(ctx context.Context) (Set, error) {
	if h.renewer == nil {
		return h.set, nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstIssueTimeout)
	defer cancel()
	c, err := h.renewer.Credential(ctx)
	if err != nil {
		return Set{}, &notIssuedError{err}
	}
	return NewSet(h.set.Name, c), nil
}

// issued returns the set with its credentials, and an error if no other could be issued because of the owner's material,
// even if the last one is still valid: its owner must learn early that it is not renewed.
func (h holder) issued(ctx context.Context) (Set, error) {
	if h.renewer != nil {
		if err := h.renewer.Err(); issuer.Rejected(err) {
			return Set{}, &notIssuedError{err}
		}
	}
	return h.usable(ctx)
}

// newRenewer returns the renewer of the credential of a set, nil if the set has its credentials.
func (k *Keyring) newRenewer(set Set) *issuer.Renewer {
	if set.material == (credentials.Material{}) {
		return nil
	}
	return issuer.NewRenewer(k.issuer(set.material), k.clock)
}

func (k *Keyring) issuer(material credentials.Material) issuer.Issuer {
	i, err := k.issuers(material)
	if err != nil {
		return failing{err}
	}
	return i
}

// failing issues nothing.
type failing struct{ err error }

func (f failing) Issue(context.Context) (credentials.Credential, time.Time, error) {
	return credentials.Credential{}, time.Time{}, f.err
}

// replaceTokens gives the entries the newer tokens of their workload identities. That is no rotation.
func (k *Keyring) replaceTokens(contents Contents) {
	sets := []Set{contents.Wanted}
	if contents.Previous != nil {
		sets = append(sets, *contents.Previous)
	}
	for _, e := range []*entry{k.active, k.candidate} {
		for _, set := range sets {
			if e == nil || e.renewer == nil || !e.set.sameCredentials(set) || e.set.material == set.material {
				continue
			}
			e.set.material = set.material
			e.renewer.Replace(k.issuer(set.material))
			k.wake()
		}
	}
}

// renewalDue returns an entry whose credential is to be issued, the candidate first, or nil.
func (k *Keyring) renewalDue() *entry {
	now := k.clock.Now()
	for _, e := range k.checkable() {
		if e.renewer != nil && !e.renewer.Due().After(now) {
			return e
		}
	}
	return nil
}

// renew issues a credential for an entry. A change of the outcome makes a check due, which reports it.
func (k *Keyring) renew(ctx context.Context, checker Checker, e *entry) {
	before := e.renewer.Err()
	err := e.renewer.Renew(ctx)
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if (err == nil) != (before == nil) || e.state != credentials.StateActive {
		e.due = k.clock.Now()
	}
	if err != nil {
		k.log.WithField("secret", e.set.Name).WithField("cause", err.Error()).Warn("Failed to issue credential")
		return
	}
	if e != k.active {
		return
	}
	k.notify()
	if set, err := e.holder().usable(ctx); err == nil {
		checker.Retain(k.serving(set))
	}
}
