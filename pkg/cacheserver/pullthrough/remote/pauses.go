// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"maps"
	"net/http"
	"sync"
	"time"
)

const (
	// shortPause is how long, at most, all requests with a credential wait after one of them met a rate limit. As long as the
	// one request that goes out then meets it again, the pause doubles up to longPause.
	shortPause = 5 * time.Second
	longPause  = time.Minute
	// maxPauses bounds the pauses that are remembered.
	maxPauses = 1024
)

// limiter honours the rate limits that the upstream tells, for each credential.
//
// What an upstream says about one request holds for those of the same kind to the same repository: they wait as long as
// they are told. All others wait a short time, since limits are often an account's or an address's, and then one of them
// finds out. Lists make nobody else wait. They are not what a cache is for, and any client can ask for any number of them.
type limiter struct {
	now func() time.Time

	mu     sync.Mutex
	pauses map[pauseKey]time.Time
	common map[*session]*commonPause
}

type pauseKey struct {
	session          *session
	kind, repository string
}

// commonPause holds for all requests with one credential.
type commonPause struct {
	until time.Time
	delay time.Duration
	// probing says that a request is out to find out whether the limit still holds.
	probing bool
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, pauses: map[pauseKey]time.Time{}, common: map[*session]*commonPause{}}
}

func (i requestInfo) pauseKey() pauseKey {
	return pauseKey{session: i.session, kind: i.kind, repository: i.repository}
}

// wait returns how long a request has to wait, 0 if not. At the end of a common pause it lets one request go.
func (l *limiter) wait(info requestInfo) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	left := l.pauses[info.pauseKey()].Sub(now)
	if left <= 0 {
		delete(l.pauses, info.pauseKey())
		left = 0
	}
	pause, ok := l.common[info.session]
	switch {
	case !ok:
	case now.Before(pause.until):
		return max(left, pause.until.Sub(now))
	case left == 0 && info.kind != kindList:
		pause.probing, pause.until = true, now.Add(pause.delay)
	}
	return left
}

// block takes a rate limit into account. Answers overtake each other, so the longest wait counts.
func (l *limiter) block(info requestInfo, resp *http.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	told := parseRetryAfter(resp.Header.Get("Retry-After"), now)
	key := info.pauseKey()
	if _, known := l.pauses[key]; !known && len(l.pauses) >= maxPauses {
		maps.DeleteFunc(l.pauses, func(_ pauseKey, until time.Time) bool { return !now.Before(until) })
		if len(l.pauses) >= maxPauses {
			clear(l.pauses) // Those requests are told again.
		}
	}
	if until := now.Add(told); until.After(l.pauses[key]) {
		l.pauses[key] = until
	}
	if info.kind == kindList {
		return
	}
	pause, ok := l.common[info.session]
	switch {
	case !ok:
		pause = &commonPause{delay: shortPause}
		l.common[info.session] = pause
	case pause.probing:
		pause.delay = min(2*pause.delay, longPause)
	}
	pause.probing = false
	if until := now.Add(min(told, pause.delay)); until.After(pause.until) || !now.Before(pause.until) {
		pause.until = until
	}
}

// passed notes that a request met no rate limit. If it was made to find that out, the common pause is over.
func (l *limiter) passed(info requestInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pause, ok := l.common[info.session]; ok && pause.probing && info.kind != kindList {
		delete(l.common, info.session)
	}
}

func (l *limiter) forget(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.common, s)
	maps.DeleteFunc(l.pauses, func(key pauseKey, _ time.Time) bool { return key.session == s })
}
