// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"context"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

// Run tries credentials until the context ends.
func (k *Keyring) Run(ctx context.Context, judge Upstream) {
	for ctx.Err() == nil {
		wait := k.step(ctx, judge)
		if wait <= 0 {
			continue
		}
		timer := k.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-timer.C():
		}
		timer.Stop()
	}
}

// step makes one trial, if one is due, and returns how long there is nothing else to do.
func (k *Keyring) step(ctx context.Context, judge Upstream) time.Duration {
	k.mu.Lock()
	k.refresh()
	target := k.dueNow()
	if target == nil {
		defer k.mu.Unlock()
		return k.untilDue()
	}
	candidates, present := target.set, k.current.set
	k.mu.Unlock()

	err := judge.Try(ctx, candidates, present)
	if ctx.Err() != nil {
		return 0
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if target != k.current && target != k.next {
		return 0 // It is no longer wanted.
	}
	if k.judge(target, err); target == k.next && target.state == credentials.StateActive {
		k.current, k.next = target, nil
		judge.Retain(target.set)
	}
	k.tell()
	return k.untilDue()
}

// dueNow returns what is to be tried now, what is to follow first.
func (k *Keyring) dueNow() *held {
	now := k.clock.Now()
	for _, h := range k.onTrial() {
		if !h.due.After(now) {
			return h
		}
	}
	return nil
}

func (k *Keyring) untilDue() time.Duration {
	wait := pollInterval
	for _, h := range k.onTrial() {
		wait = min(wait, h.due.Sub(k.clock.Now()))
	}
	return wait
}

// onTrial returns what the upstream can judge. Anonymous access has nothing to judge.
func (k *Keyring) onTrial() []*held {
	var all []*held
	if k.next != nil {
		all = append(all, k.next)
	}
	if k.current != nil && len(k.current.set.All()) > 0 {
		all = append(all, k.current)
	}
	return all
}

// judge notes the upstream's verdict.
func (k *Keyring) judge(h *held, err error) {
	if remote.Is(err, remote.Unasked) && k.settled(h) {
		err = nil
	}
	before := h.state
	shortest, longest := minRetry, maxRetry
	switch {
	case err == nil:
		h.state, h.status, h.message = credentials.StateActive, 0, ""
		shortest, longest = confirmInterval, confirmInterval
	case remote.Is(err, remote.Unauthorized):
		h.state, h.status, h.message = credentials.StateRejected, remote.StatusOf(err), err.Error()
		shortest, longest = minRejectedRetry, maxRejection
	case h.state == credentials.StatePending:
		// An upstream that does not answer leaves a verdict as it is.
		h.status, h.message = remote.StatusOf(err), err.Error()
	}
	if h.state != before {
		h.delay = 0
	}
	h.tried = k.clock.Now()
	h.delay = min(max(2*h.delay, shortest), longest)
	h.due = h.tried.Add(h.delay)
	if h.state == before {
		return
	}

	h.since = h.tried
	log := k.log.WithField("secret", h.set.Name)
	if h.state == credentials.StateActive {
		log.Info("The upstream accepts the credential")
	} else {
		log.WithField("cause", h.message).Error("The upstream rejects the credential")
		if h == k.current && k.next != nil {
			k.hurry(k.next)
		}
	}
}

// settled says whether a credential that the upstream does not ask for counts as accepted. Nothing tells a good one from
// a wrong one there, so one in use does, until a pull is refused. One that is to follow has to wait for a pull that tells
// more, as long as there is something to lose, but not for ever: there may be no pull, or an upstream that never asks.
func (k *Keyring) settled(h *held) bool {
	if h == k.current || k.current.state == credentials.StateRejected {
		return true
	}
	return h.state == credentials.StatePending && k.clock.Since(h.since) >= unaskedWait
}
