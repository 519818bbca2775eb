// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"sync"
	"time"
)

const (
	// failuresUntilDown is how many requests in a row fail until the upstream counts as down.
	failuresUntilDown = 2
	// A down upstream is probed after delays that double.
	minProbe = time.Second
	maxProbe = 30 * time.Second
)

// Observer is told about each request. It must not block.
type Observer interface {
	// Request is one HTTP request: what it was for, its status (0 without an answer) and how long its header took.
	Request(kind string, status int, duration time.Duration)
	// Health is told when the upstream goes down or comes back.
	Health(up bool)
	// Budget is what the upstream says about the rate limit of the credential for a scope of repositories.
	Budget(scope string, limit, remaining int64)
}

// health is a circuit breaker: it keeps whoever has another answer from waiting for an upstream that does not answer
// anyway. Those who have none make their requests all the same, and a success of any closes the circuit again.
type health struct {
	now      func() time.Time
	observer Observer

	mu       sync.Mutex
	failures int
	// failed is the repository of the last failure, if only that is known to be affected.
	failed string
	delay  time.Duration
	next   time.Time // when to probe
}

// healthy reports whether a request is worth its wait.
func (h *health) healthy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures < failuresUntilDown
}

// probe reports whether the caller is to find out whether a down upstream has come back. The delays do not depend on how
// many requests of others fail meanwhile.
func (h *health) probe() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if h.failures < failuresUntilDown || now.Before(h.next) {
		return false
	}
	h.delay = min(2*h.delay, maxProbe)
	h.next = now.Add(h.delay)
	return true
}

func (h *health) success() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures >= failuresUntilDown {
		h.observer.Health(true)
	}
	h.failures = 0
}

// failure notes that the upstream does not answer, or, with a repository, that it does not answer for that one.
func (h *health) failure(repository string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures >= failuresUntilDown || h.failures > 0 && repository != "" && repository == h.failed {
		return
	}
	h.failed = repository
	if h.failures++; h.failures == failuresUntilDown {
		h.observer.Health(false)
		h.delay, h.next = minProbe, h.now().Add(minProbe)
	}
}
