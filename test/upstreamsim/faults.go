// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"slices"
	"sync"
)

// Faults is how a registry misbehaves. The zero value is a healthy one.
type Faults struct {
	// Only limits the faults to these kinds of requests.
	Only []Kind
	// Times limits the faults to so many requests; 0 is no limit.
	Times int

	// Hang accepts requests and never answers them.
	Hang bool
	// Hold keeps requests waiting until the faults change, and answers them
	// then.
	Hold bool
	// Status is answered to requests instead of what they asked for.
	Status int
	// Headers are added to answers with Status.
	Headers map[string]string
	// RedirectBlobs sends those who want a blob to the foreign host.
	RedirectBlobs bool
	// ForeignRealm sends those who want a token to the foreign host.
	ForeignRealm bool

	// CutAfter closes the connection after so many bytes of a body.
	CutAfter int
	// HangAfter stops sending after so many bytes of a body.
	HangAfter int
	// PauseAfter stops sending after so many bytes of a body, and goes on when
	// the faults change.
	PauseAfter int
	// Short ends bodies so many bytes early, as if that were all of them.
	Short int
	// Overlong announces so many bytes more than there are, and closes the
	// connection where they should come.
	Overlong int
	// Corrupt changes a byte in the middle of bodies.
	Corrupt bool
	// NoRange ignores Range headers.
	NoRange bool
}

func (f Faults) concern(kind Kind) bool {
	return len(f.Only) == 0 || slices.Contains(f.Only, kind)
}

// switchboard holds the faults of the moment.
type switchboard struct {
	mu      sync.Mutex
	faults  Faults
	used    int
	changed chan struct{} // closed when the faults change
}

func newSwitchboard() *switchboard {
	return &switchboard{changed: make(chan struct{})}
}

func (s *switchboard) set(faults Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.used = faults, 0
	close(s.changed)
	s.changed = make(chan struct{})
}

// take returns the faults that a request of the given kind suffers, and a
// channel that ends its hanging.
func (s *switchboard) take(kind Kind) (Faults, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.faults.concern(kind) {
		return Faults{}, s.changed
	}
	if s.faults.Times > 0 && s.used >= s.faults.Times {
		return Faults{}, s.changed
	}
	s.used++
	return s.faults, s.changed
}

// current returns the faults regardless of kinds and times.
func (s *switchboard) current() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}
