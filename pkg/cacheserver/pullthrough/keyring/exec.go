// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// defaultExecTimeout is longer than most token services take, and shorter than clients wait.
	defaultExecTimeout = 10 * time.Second
	// renewInterval bounds how often the helper runs because the upstream rejected its credential.
	renewInterval = 30 * time.Second
	// displacedFor is how long a rejected credential is not tried again while the previous one works.
	displacedFor = time.Minute
)

// Exec runs a docker credential helper, as the exec section of Distribution's proxy does. It implements
// remote.Credentials and remote.Renewer.
type Exec struct {
	Command string
	Host    string
	// Lifetime is how long a credential is used. Nil means for ever, zero runs the helper for each request.
	Lifetime *time.Duration
	// Timeout bounds one run of the helper; 0 means 10 seconds.
	Timeout time.Duration
	Log     logrus.FieldLogger

	// running is held while the helper runs, and mu while the fields below are used.
	running sync.Mutex
	mu      sync.Mutex
	known   succession
	// err is the error of the last run, which ended at ended.
	err     error
	ended   time.Time
	expires time.Time
	renewed time.Time
}

// For implements remote.Credentials. A credential is not used after its lifetime, even if the helper fails: it may no
// longer be valid.
func (e *Exec) For(ctx context.Context, _ string) (string, credentials.Credential, error) {
	asked := time.Now()
	e.running.Lock()
	defer e.running.Unlock()
	if e.outdated(asked) {
		started := time.Now()
		c, err := e.run(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return "", credentials.Credential{}, context.Cause(ctx)
		case err != nil:
			e.Log.WithError(err).Error("Credential helper failed")
		}
		e.keep(c, err, started)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return "", credentials.Credential{}, e.err
	}
	return "", e.known.preferred(asked), nil
}

// outdated reports whether the helper has to run for a request made at the given time. A request that waited for a run
// takes its result, even an error: runs one after the other would add up their timeouts.
func (e *Exec) outdated(asked time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	valid := e.err == nil && !e.ended.IsZero() && (e.Lifetime == nil || asked.Before(e.expires))
	return !valid && !e.ended.After(asked)
}

// Renew implements remote.Renewer. It returns another known credential, or else runs the helper, at most every
// renewInterval: a rejected credential may have ended, or have been replaced, before its lifetime. If the helper has no
// other, its last credential stays in use, since it may be valid for other repositories.
func (e *Exec) Renew(ctx context.Context, rejected []credentials.Credential) (credentials.Credential, bool) {
	e.running.Lock()
	defer e.running.Unlock()
	started := time.Now()
	if c, ok := e.alternative(rejected); ok || !e.mayRenew(started) {
		return c, ok
	}
	c, err := e.run(ctx)
	switch {
	case err == nil:
		e.keep(c, nil, started)
	case ctx.Err() == nil:
		e.Log.WithError(err).Error("Credential helper failed")
	}
	return e.alternative(rejected)
}

// Accepted implements remote.Renewer.
func (e *Exec) Accepted(c credentials.Credential, rejected []credentials.Credential) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known.accept(c, rejected, time.Now())
}

// alternative returns a known credential that is not among the rejected ones.
func (e *Exec) alternative(rejected []credentials.Credential) (credentials.Credential, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return credentials.Credential{}, false
	}
	return e.known.other(rejected)
}

// mayRenew reports whether the helper may run before the end of a lifetime, and takes note of that run.
func (e *Exec) mayRenew(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil || !e.renewed.IsZero() && now.Sub(e.renewed) < renewInterval {
		return false
	}
	e.renewed = now
	return true
}

// keep stores the result of a run.
func (e *Exec) keep(c credentials.Credential, err error, started time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err, e.ended = err, time.Now(); err == nil {
		e.known.add(c)
	}
	if e.Lifetime != nil {
		e.expires = started.Add(*e.Lifetime)
	}
}

// run runs the helper once. Its output, that on standard error included, may be a secret and is never shown.
func (e *Exec) run(ctx context.Context) (credentials.Credential, error) {
	timeout := e.Timeout
	if timeout == 0 {
		timeout = defaultExecTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := client.Get(func(args ...string) client.Program {
		return newProgram(ctx, e.Command, args...)
	}, e.Host)
	switch {
	case err != nil && ctx.Err() != nil:
		return credentials.Credential{}, errors.New("credential helper timed out")
	case err != nil:
		return credentials.Credential{}, fmt.Errorf("credential helper returned no credential; to see why, run: echo %s | %s get", e.Host, e.Command)
	}
	c := credentials.Credential{Username: found.Username, Password: found.Secret}
	return c, c.Validate()
}

// succession is the last credential of a helper and the one that it has to prove itself against. The zero value is
// empty.
type succession struct {
	last credentials.Credential
	// previous is the credential that worked before last; zero if there is none, and once the upstream accepts last.
	previous credentials.Credential
	// displaced is the time until which previous is used, because the upstream rejected last and accepted previous.
	displaced time.Time
}

// add takes a credential from the helper. Only an accepted credential is one to fall back on, so that a series of wrong
// ones does not displace it.
func (s *succession) add(c credentials.Credential) {
	if c == s.last {
		return
	}
	if s.previous == (credentials.Credential{}) {
		s.previous = s.last
	}
	s.last, s.displaced = c, time.Time{}
}

// preferred returns the credential to use.
func (s *succession) preferred(now time.Time) credentials.Credential {
	if now.Before(s.displaced) {
		return s.previous
	}
	s.displaced = time.Time{}
	return s.last
}

// other returns a credential that is not among the rejected ones.
func (s *succession) other(rejected []credentials.Credential) (credentials.Credential, bool) {
	for _, c := range []credentials.Credential{s.last, s.previous} {
		if c != (credentials.Credential{}) && !slices.Contains(rejected, c) {
			return c, true
		}
	}
	return credentials.Credential{}, false
}

// accept takes note that the upstream accepted a credential, and for the same request rejected others.
func (s *succession) accept(c credentials.Credential, rejected []credentials.Credential, now time.Time) {
	switch {
	case c == s.last:
		s.previous, s.displaced = credentials.Credential{}, time.Time{}
	case c == s.previous && slices.Contains(rejected, s.last):
		s.displaced = now.Add(displacedFor)
	}
}
