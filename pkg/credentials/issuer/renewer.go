// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// issueTimeout bounds an attempt, with all its requests.
	issueTimeout = 30 * time.Second
	// A credential is renewed at a random part of its lifetime between these. That leaves a third of it for more
	// attempts, and keeps the replicas of a cache, which start together, from renewing together.
	minRenewal, maxRenewal = 0.6, 0.7
	// minLifetime bounds the rate of renewals of credentials with a nonsensical lifetime.
	minLifetime = time.Second
	// An attempt is repeated at intervals that double, from and up to these, after a failure that may pass or after a
	// rejection.
	minFailedInterval, maxFailedInterval     = time.Second, time.Minute
	minRejectedInterval, maxRejectedInterval = 30 * time.Second, 10 * time.Minute
	// backoffJitter is the part of an interval that is random.
	backoffJitter = 0.2
	// runInterval bounds the waits of Run, so that it follows a change of the due time.
	runInterval = 5 * time.Second
)

// Renewer holds a credential and renews it before it expires. It is safe for concurrent use. Its user calls
// [Renewer.Renew] when it is due.
type Renewer struct {
	clock clock.Clock

	// turn is held during an attempt.
	turn chan struct{}
	// attempted is closed at the end of the first attempt.
	attempted chan struct{}

	mu     sync.Mutex
	issuer Issuer
	held   credentials.Credential
	// expires is when the credential expires, zero without one.
	expires time.Time
	due     time.Time
	// err is the error of the last attempt, which ended at ended.
	err   error
	ended time.Time
	delay time.Duration
}

// NewRenewer returns a Renewer whose first attempt is due.
func NewRenewer(issuer Issuer, clock clock.Clock) *Renewer {
	return &Renewer{
		clock: clock, issuer: issuer, due: clock.Now(),
		turn: make(chan struct{}, 1), attempted: make(chan struct{}),
	}
}

// Credential returns the credential until it expires, and then the error of the last attempt. It waits for the first
// attempt.
func (r *Renewer) Credential(ctx context.Context) (credentials.Credential, error) {
	select {
	case <-r.attempted:
	case <-ctx.Done():
		return credentials.Credential{}, context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.clock.Now().Before(r.expires):
		return r.held, nil
	case r.err != nil:
		return credentials.Credential{}, r.err
	}
	return credentials.Credential{}, errExpired
}

// Expiry returns when the credential expires, zero without one.
func (r *Renewer) Expiry() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.expires
}

// Due returns the time of the next attempt.
func (r *Renewer) Due() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.due
}

// Replace makes the next attempt use another issuer for the same identity, whose token is newer. The attempt is due at
// once if the last one failed, maybe because of the old token.
func (r *Renewer) Replace(issuer Issuer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issuer = issuer
	if r.err != nil {
		r.due, r.delay = r.clock.Now(), 0
	}
}

// RenewBy makes the next attempt due by a time, because the upstream rejects the credential before it expires. A failed
// attempt keeps its interval.
func (r *Renewer) RenewBy(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && at.Before(r.due) {
		r.due = at
	}
}

// Err returns the error of the last attempt, nil if there was none.
func (r *Renewer) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Renew makes an attempt. A call during another attempt waits for its result.
func (r *Renewer) Renew(ctx context.Context) error {
	called := r.clock.Now()
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-r.turn }()

	r.mu.Lock()
	issuer, err, done := r.issuer, r.err, r.ended.After(called)
	r.mu.Unlock()
	if done {
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	credential, expires, err := issuer.Issue(attempt)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // It says nothing about the service.
	}
	return r.record(issuer, credential, expires, err)
}

// record takes the result of an attempt, and schedules the next one.
func (r *Renewer) record(issuer Issuer, credential credentials.Credential, expires time.Time, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	lifetime := min(expires.Sub(now), maxLifetime)
	if err == nil && lifetime <= 0 {
		err = errExpired
	}
	if err == nil {
		err = credential.Validate()
	}
	r.err, r.ended = err, now
	switch {
	case err == nil:
		r.held, r.expires, r.delay = credential, now.Add(lifetime), 0
		r.due = now.Add(between(minRenewal, maxRenewal, max(lifetime, minLifetime)))
	case issuer != r.issuer:
		r.due, r.delay = now, 0 // It has been replaced meanwhile.
	default:
		r.due = now.Add(r.backoff(err))
	}
	select {
	case <-r.attempted:
	default:
		close(r.attempted)
	}
	return err
}

// backoff returns the time until the next attempt after a failed one.
func (r *Renewer) backoff(err error) time.Duration {
	shortest, longest := minFailedInterval, maxFailedInterval
	if Rejected(err) {
		shortest, longest = minRejectedInterval, maxRejectedInterval
	}
	r.delay = min(max(2*r.delay, shortest), longest)
	wanted := min(retryAfter(err), maxRejectedInterval)
	return between(1, 1+backoffJitter, max(r.delay, wanted))
}

// between returns a random part of a duration between two factors.
func between(low, high float64, d time.Duration) time.Duration {
	return time.Duration((low + rand.Float64()*(high-low)) * float64(d)) //nolint:gosec // Jitter need not be unpredictable.
}

// Run renews the credential until the context ends, and calls changed after each attempt.
func (r *Renewer) Run(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		if wait := r.Due().Sub(r.clock.Now()); wait > 0 {
			timer := r.clock.NewTimer(min(wait, runInterval))
			select {
			case <-ctx.Done():
			case <-timer.C():
			}
			timer.Stop()
			continue
		}
		if err := r.Renew(ctx); err == nil || !errors.Is(err, context.Canceled) {
			changed()
		}
	}
}
