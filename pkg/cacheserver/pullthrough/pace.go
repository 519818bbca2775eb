// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"slices"
	"sync"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

const (
	// paceAnswers is how many answers are remembered. The second slowest of them counts: one alone may have needed a new
	// token, or have been bad luck.
	paceAnswers = 16
	// paceFactor is how much longer than that an answer may take before the upstream is in doubt.
	paceFactor = 2
)

// pace is how fast the upstream has answered for manifests lately. An upstream that is slow but steady is healthy, and
// worth waiting for; one that takes much longer than it did, or has just failed, may be down.
type pace struct {
	mu     sync.Mutex
	lately []time.Duration
	failed bool
}

// note takes a request into account that took so long.
func (p *pace) note(took time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil, remote.Is(err, remote.NotFound):
		p.failed = false
		if p.lately = append(p.lately, took); len(p.lately) > paceAnswers {
			p.lately = slices.Delete(p.lately, 0, 1)
		}
	case remote.Is(err, remote.Unavailable):
		p.failed = true
	}
}

// usual returns how long answers take at most, as a rule. It is not ok if there have been none, or the last request has
// failed.
func (p *pace) usual() (took time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed || len(p.lately) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(p.lately))
	return sorted[max(0, len(sorted)-2)], true
}

// patience is how long a client that could be served from the cache waits for the upstream's answer.
func (e *Engine) patience() time.Duration {
	doubtful := min(e.options.SuspectTimeout, e.options.ValidationTimeout)
	usual, ok := e.pace.usual()
	if !ok {
		return doubtful
	}
	return min(max(doubtful, paceFactor*usual), e.options.ValidationTimeout)
}
