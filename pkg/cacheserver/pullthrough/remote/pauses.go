// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// shortPause bounds how long all requests of a session pause after one of them met a rate limit. Each time the
	// request that probes the limit meets it again, the pause doubles, up to longPause.
	shortPause = 5 * time.Second
	longPause  = time.Minute
	// maxPauses bounds the pauses of a session.
	maxPauses = 1024
)

// limiter obeys the rate limits that the upstream sets for a session.
//
// A limit met by one request applies in full to requests of the same kind for the same repository. All other requests
// pause for a short time, since limits are often those of an account or an address, and then one of them probes. Lists
// pause no other requests: they are not the purpose of a cache, and any client can ask for any number of them.
type limiter struct {
	now func() time.Time

	mu     sync.Mutex
	pauses *simplelru.LRU[pauseKey, time.Time]
	common *commonPause
}

type pauseKey struct{ kind, repository string }

// commonPause applies to all requests of a session.
type commonPause struct {
	until time.Time
	delay time.Duration
	// probing means that a request in flight probes whether the limit still applies.
	probing bool
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, pauses: newLRU[pauseKey, time.Time](maxPauses)}
}

func (i requestInfo) pauseKey() pauseKey {
	return pauseKey{kind: i.kind, repository: i.repository}
}

// wait returns how long a request has to wait, 0 if not at all. At the end of a common pause it admits one request.
func (l *limiter) wait(info requestInfo) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	left := l.left(info, now)
	pause := l.common
	switch {
	case pause == nil:
	case now.Before(pause.until):
		return max(left, pause.until.Sub(now))
	case left == 0 && info.kind != kindList:
		pause.probing, pause.until = true, now.Add(pause.delay)
	}
	return left
}

// left returns the rest of the pause of requests like the given one.
func (l *limiter) left(info requestInfo, now time.Time) time.Duration {
	until, ok := l.pauses.Get(info.pauseKey())
	if !ok {
		return 0
	}
	if left := until.Sub(now); left > 0 {
		return left
	}
	l.pauses.Remove(info.pauseKey())
	return 0
}

// block records a rate limit. Responses may arrive out of order, so the longest wait counts.
func (l *limiter) block(info requestInfo, resp *http.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	wait := parseRetryAfter(resp.Header.Get("Retry-After"), now)
	key := info.pauseKey()
	if known, _ := l.pauses.Get(key); now.Add(wait).After(known) {
		l.pauses.Add(key, now.Add(wait))
	}
	if info.kind == kindList {
		return
	}
	switch {
	case l.common == nil:
		l.common = &commonPause{delay: shortPause}
	case l.common.probing:
		l.common.delay = min(2*l.common.delay, longPause)
	}
	pause := l.common
	pause.probing = false
	if until := now.Add(min(wait, pause.delay)); until.After(pause.until) || !now.Before(pause.until) {
		pause.until = until
	}
}

// passed records that a request met no rate limit, which ends the common pause if the request probed it.
func (l *limiter) passed(info requestInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.common != nil && l.common.probing && info.kind != kindList {
		l.common = nil
	}
}
