// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/status"
)

// Served counts a response with content; hit means that nothing had to be fetched for it.
func (m *Metrics) Served(kind string, bytes int64, hit bool) {
	m.PushedBytes.WithLabelValues(kind).Add(float64(bytes))
	if hit {
		m.Hits.WithLabelValues(kind).Inc()
		m.SavedBytes.WithLabelValues(kind).Add(float64(bytes))
	}
}

// Joined counts a request that shares the result of another one, if joined is set.
func (m *Metrics) Joined(kind string, joined bool) {
	if joined {
		m.Coalesced.WithLabelValues(kind).Inc()
	}
}

// FetchFailed counts a fetch that failed. One whose readers have all left is not the upstream's fault.
func (m *Metrics) FetchFailed(ctx context.Context, err error) {
	reason := Reason(err)
	if ctx.Err() != nil {
		reason = canceled
	}
	m.FillErrors.WithLabelValues(reason).Inc()
	if !status.IsFailureElsewhere(reason) {
		m.failures.add(time.Now())
	}
}

// Failing reports whether many fetches have failed lately.
func (m *Metrics) Failing(now time.Time) bool { return m.failures.within(now, status.FailureWindow) }

// RateLimitedAt returns when the upstream last rejected a request because of its rate limit, the zero time if it never
// did.
func (m *Metrics) RateLimitedAt() time.Time { return m.rateLimited.get() }

// failures are the times of the latest failures, just enough to know whether there were more than status.ManyFailures.
type failures struct {
	mu    sync.Mutex
	times [status.ManyFailures + 1]time.Time
	next  int // the oldest
}

func (f *failures) add(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times[f.next] = at
	f.next = (f.next + 1) % len(f.times)
}

// within reports whether the oldest of the times was within a window.
func (f *failures) within(now time.Time, window time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return status.IsRecent(f.times[f.next], now, window)
}

// canceled is the reason of a fetch that was ended because nothing needed it any longer.
const canceled = "canceled"

// NotStored counts a fetch that could not be stored. Lack of space is counted apart from other reasons, because only a
// larger volume helps.
func (m *Metrics) NotStored(err error) {
	if store.IsFull(err) {
		m.Unstored.Inc()
		m.bypassed.now()
		return
	}
	m.StoreErrors.Inc()
	m.storeFailed.now()
}

// BypassedAt returns when a fetch last could not be stored for lack of space, the zero time if that never happened.
func (m *Metrics) BypassedAt() time.Time { return m.bypassed.get() }

// StoreFailedAt returns when a fetch last could not be stored for another reason, the zero time if that never happened.
func (m *Metrics) StoreFailedAt() time.Time { return m.storeFailed.get() }

// moment is the last time of something, also as a metric if there is one.
type moment struct {
	gauge prometheus.Gauge
	last  atomic.Pointer[time.Time]
}

func (m *moment) now() {
	now := time.Now()
	m.last.Store(&now)
	if m.gauge != nil {
		m.gauge.Set(unix(now))
	}
}

// get returns the zero time if there was none.
func (m *moment) get() time.Time {
	if last := m.last.Load(); last != nil {
		return *last
	}
	return time.Time{}
}

// Record counts the event of a request.
func (m *Metrics) Record(e event.Event) {
	if e.Kind == Blob || e.Kind == Manifest {
		m.Outcomes.WithLabelValues(e.Kind, string(e.Outcome)).Inc()
	}
	m.Repositories.served(e)
}

// Reason is the label for an error: why the upstream did not deliver, or internal.
func Reason(err error) string {
	if errors.Is(err, store.ErrMismatch) {
		return remote.Invalid.String()
	}
	if reason, ok := remote.ReasonOf(err); ok {
		return reason.String()
	}
	return "internal"
}
