// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"slices"
	"sync"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

const (
	// latencySamples is how many responses are remembered. The second slowest of them counts: the slowest one may have
	// needed a new token, or have been bad luck.
	latencySamples = 16
	// latencyFactor is the multiple of the usual latency after which the upstream is suspect.
	latencyFactor = 2
)

// latency is how fast the upstream responded to recent requests for manifests. An upstream that is slow but steady is
// healthy and worth waiting for; one that is much slower than before, or has just failed, may be down.
type latency struct {
	mu      sync.Mutex
	samples []time.Duration
	failed  bool
}

// record takes a request into account.
func (l *latency) record(took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil, remote.Is(err, remote.NotFound):
		l.failed = false
		if l.samples = append(l.samples, took); len(l.samples) > latencySamples {
			l.samples = slices.Delete(l.samples, 0, 1)
		}
	case remote.Is(err, remote.Unavailable):
		l.failed = true
	}
}

// usual returns the second highest recent latency. ok is false if there are no samples or the last request failed.
func (l *latency) usual() (took time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed || len(l.samples) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(l.samples))
	return sorted[max(0, len(sorted)-2)], true
}
