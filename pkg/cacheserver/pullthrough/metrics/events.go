// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
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
}

// canceled is the reason of a fetch that was ended because nothing needed it any longer.
const canceled = "canceled"

// Bypassed counts a fetch that could not be stored.
func (m *Metrics) Bypassed() {
	m.Unstored.Inc()
	now := time.Now().Unix()
	m.bypassedAt.Store(now)
	m.LastBypass.Set(float64(now))
}

// BypassedAt returns when a fetch last could not be stored, the zero time if that never happened.
func (m *Metrics) BypassedAt() time.Time {
	if at := m.bypassedAt.Load(); at != 0 {
		return time.Unix(at, 0)
	}
	return time.Time{}
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
