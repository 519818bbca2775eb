// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// spans records since when something has been the case at every look at the caches of an Extension. It is not
// persistent: after a restart of the controller, conditions stay as they are for a little longer.
type spans struct {
	at          time.Time
	before, now map[subject]span
}

// subject is something that can be the case at a look.
type subject struct {
	// upstream is the cache that it is about, empty for all caches.
	upstream string
	what     string
}

// span is for how long something has been the case.
type span struct {
	start time.Time
	// looks is the number of looks, including the present one.
	looks int
}

// extend returns for how many looks and how long something has been the case that is the case at this look.
func (s *spans) extend(upstream, what string) (looks int, lasted time.Duration) {
	key := subject{upstream, what}
	present, known := s.before[key]
	if !known || present.start.After(s.at) { // A clock that was set back must not prolong it.
		present.start = s.at
	}
	present.looks++
	if s.now == nil {
		s.now = map[subject]span{}
	}
	s.now[key] = present
	return present.looks, s.at.Sub(present.start)
}

// looks returns for how many looks in a row something has been the case, including this one.
func (s *spans) looks(upstream, what string) int {
	looks, _ := s.extend(upstream, what)
	return looks
}

// lasted returns how long something has been the case that is the case at this look.
func (s *spans) lasted(upstream, what string) time.Duration {
	_, lasted := s.extend(upstream, what)
	return lasted
}

// memory has the spans of Extensions. What a look does not ask for has ended, so it is forgotten.
type memory struct {
	mu     sync.Mutex
	starts map[types.NamespacedName]map[subject]span
}

// begin returns the spans for a look at an Extension. Looks at one Extension do not overlap.
func (m *memory) begin(extension types.NamespacedName, now time.Time) *spans {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &spans{at: now, before: m.starts[extension]}
}

// end keeps the spans of a look for the next one. Nil forgets the Extension.
func (m *memory) end(extension types.NamespacedName, look *spans) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if look == nil || len(look.now) == 0 {
		delete(m.starts, extension)
		return
	}
	if m.starts == nil {
		m.starts = map[types.NamespacedName]map[subject]span{}
	}
	m.starts[extension] = look.now
}
