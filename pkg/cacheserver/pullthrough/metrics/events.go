// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
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

// Reason is the label for an error: why the upstream did not deliver, or internal.
func Reason(err error) string {
	if reason, ok := remote.ReasonOf(err); ok {
		return reason.String()
	}
	return "internal"
}
