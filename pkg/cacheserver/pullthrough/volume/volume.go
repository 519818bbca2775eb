// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package volume finds out whether the volume of a cache hangs.
//
// A call to a volume cannot be canceled, and a slow volume must not be mistaken for one that hangs. So a single slow
// call says nothing: the volume hangs if calls wait and none has returned for as long as the limit.
//
// While it hangs, the cache avoids calls, so that hardly any can return. The volume is therefore probed. If the probe
// returns, only the calls that wait are stuck, for instance on a bad sector: they are given up and no longer count.
package volume

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The kinds of calls.
const (
	read = iota
	write
	// durable calls make a small change durable. On a busy volume, they wait for all that is being written.
	durable
	// long calls take as long as their content is large, to commit or to remove it. No request waits for them. They do
	// not count as a sign that the volume works: removals can succeed in memory while reads and writes hang. Nor does a
	// long call show that the volume hangs: only a probe that does not return can.
	long
	kinds
)

// patience is how many limits calls of a kind may wait, while none of them returns, before the volume counts as hanging
// although other calls return: with a hanging journal, content in memory can still be read. It is the only limit for
// calls that sync. Long calls are doubted after theirs, unless others return.
var patience = [kinds]int{read: 30, write: 5, durable: 5, long: 30}

// looks is the number of looks within the limit. Run counts looks instead of measuring time, since the process may have
// been stopped in between.
const looks = 20

// maxProbe is the number of looks within which a probe has to return, which syncs, as durable calls do.
var maxProbe = looks * patience[durable]

// maxStuck bounds the calls that were given up and have not returned, each of which keeps a thread. With more of them,
// the volume hangs even if probes return.
const maxStuck = 256

// Monitor counts the calls to a volume. All methods accept a nil Monitor, for which no volume hangs.
type Monitor struct {
	limit time.Duration
	// calls are those that were not given up.
	calls atomic.Pointer[counters]

	hangs, stuck atomic.Bool
	mu           sync.Mutex
	// hanging is closed while the volume hangs.
	hanging chan struct{}
}

type counters [kinds]calls

type calls struct{ begun, returned atomic.Uint64 }

// waiting returns how many calls have not returned.
func (c *counters) waiting() (n uint64) {
	for kind := range c {
		returned := c[kind].returned.Load() // First, since it must not exceed the number of those that have begun.
		n += c[kind].begun.Load() - returned
	}
	return n
}

// New returns a monitor, which has to Run, of a volume that hangs after the given time.
func New(limit time.Duration) *Monitor {
	m := &Monitor{limit: limit, hanging: make(chan struct{})}
	m.calls.Store(&counters{})
	return m
}

// Call is a call to the volume that has not returned.
type Call struct{ calls *calls }

// Read begins a call that reads.
func (m *Monitor) Read() Call { return m.begin(read) }

// Write begins a call that writes without syncing.
func (m *Monitor) Write() Call { return m.begin(write) }

// Sync begins a call that makes a small change durable.
func (m *Monitor) Sync() Call { return m.begin(durable) }

// Long begins a call that takes as long as its content is large, and for which no request waits.
func (m *Monitor) Long() Call { return m.begin(long) }

func (m *Monitor) begin(kind int) Call {
	if m == nil {
		return Call{}
	}
	calls := &m.calls.Load()[kind]
	calls.begun.Add(1)
	return Call{calls}
}

// Returned ends the call.
func (c Call) Returned() {
	if c.calls != nil {
		c.calls.returned.Add(1)
	}
}

// Hangs reports whether the volume hangs.
func (m *Monitor) Hangs() bool { return m != nil && m.hangs.Load() }

// Stuck reports whether calls that were given up have not returned.
func (m *Monitor) Stuck() bool { return m != nil && m.stuck.Load() }

// Hanging returns a channel that is closed when the volume hangs, and stays closed. A probe can end that state within
// milliseconds, so a caller that waits keeps the channel from when it began to wait.
func (m *Monitor) Hanging() <-chan struct{} {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hanging
}

// Run looks at the calls until ctx ends, and reports when the volume begins and ceases to hang. Probe writes to the
// volume and syncs. If it returns, even because of an error, the volume responds. Only one probe runs at a time, in a
// goroutine that Run does not wait for. Without a probe, a hang ends only when calls return.
func (m *Monitor) Run(ctx context.Context, probe func(), report func(hangs bool)) {
	ticker := time.NewTicker(m.limit / looks)
	defer ticker.Stop()
	l := look{sinceProbe: looks}
	returned := make(chan struct{}, 1) // Run may have ended when the probe returns.
	for {
		hangs := m.Hangs()
		select {
		case <-ctx.Done():
			return
		case <-returned:
			l.probing = false
			if l.sinceProbe <= maxProbe && (hangs || l.doubts()) && l.giveUp(m) {
				hangs = false
			}
		case <-ticker.C:
			hangs = l.at(m)
		}
		if m.set(hangs) {
			report(hangs)
		}
		if probe != nil && l.needsProbe(hangs) {
			l.probing, l.sinceProbe = true, 0
			go func() {
				probe()
				returned <- struct{}{}
			}()
		}
	}
}

// set reports whether that is a change.
func (m *Monitor) set(hangs bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hangs.Swap(hangs) == hangs {
		return false
	}
	if hangs {
		close(m.hanging)
	} else {
		m.hanging = make(chan struct{})
	}
	return true
}

// look is what has been seen of the calls.
type look struct {
	returned [kinds]uint64
	// still counts consecutive looks at which calls of a kind waited and none had returned. allStill counts those at
	// which reads or writes waited and no call but long ones had returned.
	still    [kinds]int
	allStill int

	// givenUp has the calls that were given up, until all that were given up together have returned.
	givenUp []*counters
	// probing means that a probe has not returned. sinceProbe counts the looks since the last one began.
	probing    bool
	sinceProbe int
}

// at looks once more, and reports whether the volume hangs.
func (l *look) at(m *Monitor) (hangs bool) {
	l.sinceProbe++
	l.forgetReturned(m)
	all := m.calls.Load()
	wait, move := false, false
	for kind := range all {
		// In this order, a call that returns in between looks as if it waited, which the next look corrects.
		returned := all[kind].returned.Load()
		waits, moves := all[kind].begun.Load() != returned, returned != l.returned[kind]
		l.returned[kind] = returned
		wait, move = wait || waits && kind <= write, move || moves && kind != long
		if l.still[kind]++; moves || !waits || kind == long && move { // Long calls are the last kind.
			l.still[kind] = 0
		}
		hangs = hangs || kind != long && l.still[kind] > looks*patience[kind]
	}
	if l.allStill++; move || !wait {
		l.allStill = 0
	}
	return hangs || l.allStill > looks || l.doubts() && l.probing && l.sinceProbe > maxProbe
}

// doubts reports whether a long call has waited for so long that only a probe can decide whether the volume hangs.
func (l *look) doubts() bool { return l.still[long] > looks*patience[long] }

// needsProbe reports whether to probe the volume: at most once within the limit, since a probe that changes nothing
// should not keep the volume busy.
func (l *look) needsProbe(hangs bool) bool {
	return (hangs || l.doubts()) && !l.probing && l.sinceProbe >= looks
}

// giveUp gives up the calls that wait. It returns false if too many would be stuck.
func (l *look) giveUp(m *Monitor) bool {
	waiting := m.calls.Load()
	stuck := waiting.waiting()
	for _, earlier := range l.givenUp {
		stuck += earlier.waiting()
	}
	if stuck > maxStuck {
		return false
	}
	m.calls.Store(&counters{})
	l.givenUp = append(l.givenUp, waiting)
	l.returned, l.still, l.allStill = [kinds]uint64{}, [kinds]int{}, 0
	l.forgetReturned(m)
	return true
}

// forgetReturned forgets calls that were given up and have returned since.
func (l *look) forgetReturned(m *Monitor) {
	l.givenUp = slices.DeleteFunc(l.givenUp, func(c *counters) bool { return c.waiting() == 0 })
	m.stuck.Store(len(l.givenUp) > 0)
}
