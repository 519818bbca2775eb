// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"sync"
	"time"
)

const (
	// failuresUntilDown is the number of consecutive failures after which the upstream counts as down.
	failuresUntilDown = 2
	// An upstream that is down is probed at intervals that double.
	minProbe = time.Second
	maxProbe = 30 * time.Second
)

// Observer is notified of each request. It must not block.
type Observer interface {
	// Request is called after each HTTP request with its kind, its status (0 without a response) and the time to its
	// header.
	Request(kind string, status int, duration time.Duration)
	// Health is called when the upstream goes down or recovers.
	Health(up bool)
	// Budget is called with the rate limit of the credential for a scope, and what remains of it.
	Budget(scope string, limit, remaining int64)
	// BudgetExpired is called when the last report for a scope no longer counts.
	BudgetExpired(scope string)
}

// Health is how the upstream responds.
type Health struct {
	Up bool
	// Since is when Up last changed, the zero time if it never did.
	Since time.Time
	// Cause is that of the failure that made the upstream count as down. It is safe to show to anyone.
	Cause string
}

// health is a circuit breaker: callers with another source do not wait for an upstream that is down. Those without one
// make their requests nevertheless, and the success of any of them closes the circuit.
type health struct {
	now      func() time.Time
	observer Observer

	mu       sync.Mutex
	since    time.Time // of the last change
	cause    string    // of the last failure
	failures int
	// failed is the repository of the last failure if that may affect only this repository.
	failed string
	delay  time.Duration
	next   time.Time // of the next probe
}

// healthy reports whether the upstream is up.
func (h *health) healthy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures < failuresUntilDown
}

func (h *health) get() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	health := Health{Up: h.failures < failuresUntilDown, Since: h.since}
	if !health.Up {
		health.Cause = h.cause
	}
	return health
}

// probe reports whether the caller should probe an upstream that is down. Failures of other requests do not change the
// intervals.
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
		h.since = h.now()
		h.observer.Health(true)
	}
	h.failures = 0
}

// failure records that the upstream does not respond, or, with a repository, that it does not respond for that one.
func (h *health) failure(repository, cause string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cause = cause
	if h.failures >= failuresUntilDown || h.failures > 0 && repository != "" && repository == h.failed {
		return
	}
	h.failed = repository
	if h.failures++; h.failures == failuresUntilDown {
		h.since = h.now()
		h.observer.Health(false)
		h.delay, h.next = minProbe, h.since.Add(minProbe)
	}
}
