// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package journal takes the event of each request: it logs it, counts it for its repository, and remembers the latest
// ones that were not hits.
package journal

import (
	"slices"
	"sync"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
)

// maxMisses bounds the events that are remembered.
const maxMisses = 50

// Journal has the events of one cache.
type Journal struct {
	mu     sync.Mutex
	misses []event.Event
	next   int
}

// New returns an empty journal.
func New() *Journal {
	return &Journal{misses: make([]event.Event, 0, maxMisses)}
}

// Record takes an event.
func (j *Journal) Record(e event.Event) {
	if e.Outcome != event.Hit {
		j.remember(e)
	}
}

func (j *Journal) remember(e event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.misses) < maxMisses {
		j.misses = append(j.misses, e)
		return
	}
	j.misses[j.next] = e
	j.next = (j.next + 1) % maxMisses
}

// Misses returns the latest events that were not hits, the newest first.
func (j *Journal) Misses() []event.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	latest := slices.Concat(j.misses[j.next:], j.misses[:j.next])
	slices.Reverse(latest)
	return latest
}
