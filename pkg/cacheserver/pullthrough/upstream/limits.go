// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"net/http"
	"sync"
	"time"
)

const (
	// failuresUntilDown is how many requests in a row fail until the upstream counts as down.
	failuresUntilDown = 2
	// A down upstream is probed by the requests of those who have no other answer, and after these delays by others.
	minProbe = time.Second
	maxProbe = 30 * time.Second
)

// Observer is told about each request. It must not block.
type Observer interface {
	// Request is one HTTP request: what it was for, its status (0 without an answer) and how long its header took.
	Request(kind string, status int, duration time.Duration)
	// Health is told when the upstream goes down or comes back.
	Health(up bool)
	// Budget is what the upstream says about its rate limit.
	Budget(limit, remaining int64)
}

// health keeps whoever has another answer from waiting for an upstream that does not answer anyway.
type health struct {
	now      func() time.Time
	observer Observer

	mu       sync.Mutex
	failures int
	delay    time.Duration
	probe    time.Time // when to try again
}

// healthy reports whether a request is worth its wait. Of a down upstream, one in a while is.
func (h *health) healthy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures < failuresUntilDown {
		return true
	}
	now := h.now()
	if now.Before(h.probe) {
		return false
	}
	h.probe = now.Add(h.delay)
	return true
}

func (h *health) success() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures >= failuresUntilDown {
		h.observer.Health(true)
	}
	h.failures, h.delay = 0, 0
}

func (h *health) failure() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures++
	if h.failures < failuresUntilDown {
		return
	}
	if h.failures == failuresUntilDown {
		h.observer.Health(false)
	}
	h.delay = min(max(2*h.delay, minProbe), maxProbe)
	h.probe = h.now().Add(h.delay)
}

// limiter honours the rate limits that the upstream tells, for each credential.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	blocked map[*session]time.Time
}

// wait returns how long a credential has to wait, 0 if not.
func (l *limiter) wait(s *session) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.blocked[s]
	if !ok {
		return 0
	}
	left := until.Sub(l.now())
	if left <= 0 {
		delete(l.blocked, s)
		return 0
	}
	return left
}

func (l *limiter) block(s *session, resp *http.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.blocked[s] = now.Add(parseRetryAfter(resp.Header.Get("Retry-After"), now))
}

func (l *limiter) forget(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.blocked, s)
}
