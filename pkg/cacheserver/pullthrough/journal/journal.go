// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package journal takes the event of each request: it completes the cause, logs the event, counts it for its repository,
// and remembers the latest ones that were not hits.
package journal

import (
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
)

// maxMisses bounds the events that are remembered.
const maxMisses = 50

// Options are what a Journal depends on.
type Options struct {
	// Removed returns why content was removed from the cache.
	Removed func(d digest.Digest) (reason string, ok bool)
	Metrics *metrics.Metrics
	// Log logs an event.
	Log func(event.Event)
}

// Journal has the events of one cache.
type Journal struct {
	Options

	mu sync.Mutex
	// misses is a ring whose oldest event is the next to be replaced.
	misses []event.Event
	next   int
}

// New returns an empty journal.
func New(o Options) *Journal {
	return &Journal{Options: o, misses: make([]event.Event, 0, maxMisses)}
}

// Record takes an event.
func (j *Journal) Record(e event.Event) {
	if e.Outcome != event.Hit && e.Cause == "" {
		e.Cause = event.CauseNew
		if reason, ok := j.Removed(digest.Digest(e.Digest)); ok {
			e.Cause = reason
		}
	}
	j.Log(e)
	j.Metrics.Record(e)
	// Lists are always fetched, and anyone can be denied; remembering that would displace what needs an explanation.
	if e.Outcome != event.Hit && e.Outcome != event.Denied && e.Cause != event.CauseList {
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
