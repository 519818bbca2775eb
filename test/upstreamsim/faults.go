// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"slices"
	"sync"
)

// Faults is the misbehaviour of a registry. The zero value is a healthy registry.
type Faults struct {
	// Only limits the faults to these kinds of requests.
	Only []Kind
	// Times limits the faults to this many requests; 0 is no limit.
	Times int

	// Hang accepts requests and never responds.
	Hang bool
	// Hold delays responses until the faults change.
	Hold bool
	// Status is the status of every response.
	Status int
	// Headers are added to responses with Status.
	Headers map[string]string
	// RedirectBlobs redirects requests for blobs to the foreign host.
	RedirectBlobs bool
	// ForeignRealm names the foreign host as the token server.
	ForeignRealm bool

	// CutAfter closes the connection after this many bytes of a body.
	CutAfter int
	// HangAfter stops sending after this many bytes of a body.
	HangAfter int
	// PauseAfter stops sending after this many bytes of a body and continues when the faults change.
	PauseAfter int
	// Short ends bodies this many bytes early, with a Content-Length to match.
	Short int
	// Overlong announces this many bytes too many and closes the connection in their place.
	Overlong int
	// Corrupt changes a byte in the middle of bodies.
	Corrupt bool
	// NoRange ignores Range headers.
	NoRange bool
}

func (f Faults) concern(kind Kind) bool {
	return len(f.Only) == 0 || slices.Contains(f.Only, kind)
}

// switchboard holds the current faults.
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

// take returns the faults for a request of the given kind and a channel that is closed when the faults change.
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
