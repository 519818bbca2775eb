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
	before, now map[span]time.Time
}

// span is something that can be the case at a look.
type span struct {
	// upstream is the cache that it is about, empty for all caches.
	upstream string
	what     string
}

// lasted returns how long something has been the case that is the case at this look.
func (s *spans) lasted(upstream, what string) time.Duration {
	key := span{upstream, what}
	start, known := s.before[key]
	if !known || start.After(s.at) { // A clock that was set back must not prolong it.
		start = s.at
	}
	if s.now == nil {
		s.now = map[span]time.Time{}
	}
	s.now[key] = start
	return s.at.Sub(start)
}

// memory has the spans of Extensions. What a look does not ask for has ended, so it is forgotten.
type memory struct {
	mu     sync.Mutex
	starts map[types.NamespacedName]map[span]time.Time
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
		m.starts = map[types.NamespacedName]map[span]time.Time{}
	}
	m.starts[extension] = look.now
}
