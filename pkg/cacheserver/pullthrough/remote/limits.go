// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"maps"
	"net/http"
	"slices"
	"strings"
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
	// Cause is that of the last failure of an upstream that is down. It is safe to show to anyone.
	Cause string
}

// health is a circuit breaker: callers with another source do not wait for an upstream that does not respond. Those
// without one make their requests nevertheless, and the success of any of them closes the circuit.
//
// It also knows whether the upstream is down for the people who look at it. That does not end with any success: in a
// partial outage, blobs may fail while manifests work, and the state would change with every pull.
type health struct {
	now      func() time.Time
	observer Observer

	mu       sync.Mutex
	down     bool
	since    time.Time // of the last change of down
	cause    string    // of the last failure
	failures int
	// failing are calls for content that failed since the upstream was last up, one of each kind. It is down until each
	// kind has succeeded. Working is the latest call of each kind that succeeded.
	failing, working map[string]call
	// failed is the repository of the last failure if that may affect only this repository.
	failed string
	delay  time.Duration
	next   time.Time // of the next probe
}

// healthy reports whether the circuit is closed.
func (h *health) healthy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures < failuresUntilDown
}

func (h *health) get() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	health := Health{Up: !h.down, Since: h.since}
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
	if !h.down || now.Before(h.next) {
		return false
	}
	h.delay = min(2*h.delay, maxProbe)
	h.next = now.Add(h.delay)
	return true
}

// probes returns the calls that show whether an upstream that is down has recovered: of each kind that failed, the latest
// that worked before, or else the one that failed.
func (h *health) probes() []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := make([]call, 0, len(h.failing))
	for _, kind := range slices.Sorted(maps.Keys(h.failing)) {
		probe, ok := h.working[kind]
		if !ok {
			probe = h.failing[kind]
		}
		calls = append(calls, probe)
	}
	return calls
}

// isContent reports whether a call is for content. Others, such as lists, do not keep an upstream down: pulls need none.
func (c call) isContent() bool {
	kind := strings.TrimSuffix(c.kind, headSuffix)
	return kind == kindManifest || kind == kindBlob
}

func (h *health) success(made call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures = 0
	if made.isContent() {
		if h.working == nil {
			h.working = map[string]call{}
		}
		h.working[made.kind] = made
	}
	delete(h.failing, made.kind)
	if made.method == http.MethodGet {
		delete(h.failing, made.kind+headSuffix) // GET takes the place of HEAD if the upstream refuses that.
	}
	if !h.down {
		clear(h.failing)
		return
	}
	if len(h.failing) == 0 {
		h.down, h.since = false, h.now()
		h.observer.Health(true)
	}
}

// failure records that the upstream does not respond to a call, or, with a repository, that it does not respond for that
// one.
func (h *health) failure(made call, repository, cause string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cause = cause
	if made.isContent() {
		if h.failing == nil {
			h.failing = map[string]call{}
		}
		h.failing[made.kind] = made
	}
	if h.failures >= failuresUntilDown || h.failures > 0 && repository != "" && repository == h.failed {
		return
	}
	h.failed = repository
	h.failures++
	if h.failures < failuresUntilDown || h.down {
		return
	}
	h.down, h.since = true, h.now()
	h.observer.Health(false)
	h.delay, h.next = minProbe, h.since.Add(minProbe)
}
