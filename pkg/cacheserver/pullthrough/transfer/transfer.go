// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package transfer streams an object to any number of readers while it arrives.
//
// A transfer makes an object available: by a fetch into the store, or by the verification of a file on disk. It does
// not belong to any reader: readers join and leave, each with its own pace, and each gets all bytes from the first one.
// The bytes are in a growing file. Each reader has its own descriptor, so the kernel can send from the file and memory
// does not depend on the number of readers. The transfer keeps a descriptor while it has readers, for those that have
// not opened the file before it is removed because it could not be stored.
//
// The last byte of the object is held back until the object is verified. So a reader of a corrupt object gets a
// response that is visibly incomplete. A part that ends before the last byte is delivered as soon as it arrives:
// holding back the end of a part would block all other readers of a transfer without a disk, since its verification
// needs room in the window that this reader does not free.
//
// When the disk is full, a transfer continues without it: the bytes pass through a small window in memory, and the
// producer waits for the slowest reader (see window). A reader that joins after the window has moved on starts a new
// transfer.
package transfer

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// Unknown is the size of an object whose size is not known yet.
const Unknown int64 = -1

const (
	// announceBytes and announceDelay limit how often readers are woken: after that many new bytes, or after that
	// delay.
	announceBytes = 1 << 20
	announceDelay = 5 * time.Millisecond
)

// ErrAbandoned ends a transfer without readers.
var ErrAbandoned = errors.New("abandoned because it has no readers")

// ErrStuck means that the volume hangs. The reader may find the bytes elsewhere, so it must not wait for the volume.
var ErrStuck = errors.New("the volume of the cache does not respond")

// ErrTooSlow ends a reader that blocked the other readers of a transfer without a disk for too long.
var ErrTooSlow = errors.New("reader is too slow for a fetch that cannot be stored and has other readers")

// Transfer is one object on its way into the cache. The producer calls Begin, then Advance or Pass, then Verified; a
// Reader follows it.
type Transfer struct {
	owner string

	mu sync.Mutex
	// changed is closed and replaced to wake readers.
	changed chan struct{}

	begun    bool
	size     int64
	open     func() (*os.File, error)
	kept     *os.File // For readers that can no longer open the file.
	inFile   int64    // The number of bytes in the file.
	window   *window
	unstored error // why the object is not stored
	verified bool
	done     bool
	err      error

	announced int64
	alarm     *time.Timer
	readers   map[*Reader]struct{}

	grace   time.Duration
	stall   time.Duration
	hanging func() <-chan struct{}
	// hung is closed if the volume has hung since the transfer last advanced. The call that the transfer waits for may be
	// stuck even if the volume does not hang any more.
	hung    <-chan struct{}
	cancel  context.CancelCauseFunc
	expirer *time.Timer
	// abandoned transfers are canceled, but may not have ended yet.
	abandoned bool
	// delivered means that a reader has left with the part that it wanted, and may come back for others.
	delivered bool
}

func newTransfer(owner string, g *Group, cancel context.CancelCauseFunc) *Transfer {
	t := &Transfer{
		owner:   owner,
		changed: make(chan struct{}),
		size:    Unknown,
		readers: map[*Reader]struct{}{},
		grace:   g.grace,
		stall:   g.stall,
		hanging: g.hanging,
		cancel:  cancel,
	}
	t.advanced()
	return t
}

// advanced notes that the transfer is not stuck. The caller holds mu.
func (t *Transfer) advanced() {
	if t.hanging != nil {
		t.hung = t.hanging()
	}
}

// mayBeStuck reports whether the transfer has not advanced since the volume hung, which it no longer does. The caller
// holds mu.
func (t *Transfer) mayBeStuck() bool {
	return t.needsVolume() && isClosed(t.hung) && !isClosed(t.hanging())
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Begin announces the size of the object, or Unknown, and how a reader opens the file. Open is nil if there is no file;
// then all bytes go through Pass.
func (t *Transfer) Begin(size int64, open func() (*os.File, error)) {
	var kept *os.File
	if open != nil {
		kept, _ = open() // If the error persists, readers return it.
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun, t.size, t.open, t.kept = true, size, open, kept
	t.advanced()
	t.wake()
}

// Advance announces n more bytes in the file.
func (t *Transfer) Advance(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advanced()
	first := t.inFile == 0
	t.inFile += int64(n)
	// Verified follows the last bytes immediately and wakes the readers.
	if t.inFile != t.size && (first || t.inFile-t.announced >= announceBytes) {
		t.announce()
		return
	}
	if t.alarm == nil {
		t.alarm = time.AfterFunc(announceDelay, t.announceLate)
	}
}

// Verified announces that the object is complete and verified, and its size.
func (t *Transfer) Verified(size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.verified, t.size = true, size
	t.advanced()
	t.announce()
}

// Unstored records why the object cannot be stored. It is still served.
func (t *Transfer) Unstored(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unstored = err
}

// Wanted reports whether there are readers. If not, the transfer is abandoned. A producer calls it after it has waited
// for its turn.
func (t *Transfer) Wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.abandoned = t.abandoned || len(t.readers) == 0
	return !t.abandoned
}

// needsVolume reports whether the transfer uses the volume, or may yet. The caller holds mu.
func (t *Transfer) needsVolume() bool {
	return t.hanging != nil && t.window == nil && (!t.begun || t.open != nil)
}

// volumeHangs returns a channel that is closed when the volume hangs, nil if the transfer does without it. The caller
// holds mu.
func (t *Transfer) volumeHangs() <-chan struct{} {
	if !t.needsVolume() {
		return nil
	}
	return t.hung
}

func (t *Transfer) arrived() int64 {
	if t.window != nil {
		return t.window.end
	}
	return t.inFile
}

// finish ends the transfer. An error after the verification does not affect readers.
func (t *Transfer) finish(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil && !t.verified {
		err = errors.New("ended unverified")
	}
	t.done, t.err = true, err
	t.stopTimers()
	t.closeKept()
	t.wake()
}

// closeKept closes the file when the transfer has ended and has no readers. The caller holds mu.
func (t *Transfer) closeKept() {
	if t.kept != nil && t.done && len(t.readers) == 0 {
		_ = t.kept.Close() // It is read-only.
		t.kept = nil
	}
}

func (t *Transfer) stopTimers() {
	for _, timer := range []*time.Timer{t.alarm, t.expirer} {
		if timer != nil {
			timer.Stop()
		}
	}
	t.alarm, t.expirer = nil, nil
}

func (t *Transfer) announce() {
	if t.alarm != nil {
		t.alarm.Stop()
		t.alarm = nil
	}
	t.announced = t.inFile
	t.wake()
}

func (t *Transfer) announceLate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alarm = nil
	if !t.done && t.announced < t.inFile {
		t.announce()
	}
}

// wake wakes all readers. The caller holds mu.
func (t *Transfer) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// join adds a reader, unless the transfer has ended, is abandoned or may be stuck, or the window has dropped the bytes
// after the file.
func (t *Transfer) join() (*Reader, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done || t.abandoned || t.mayBeStuck() || t.window != nil && t.window.start > t.inFile {
		return nil, false
	}
	r := &Reader{transfer: t, marked: unmarked}
	t.readers[r] = struct{}{}
	if t.expirer != nil {
		t.expirer.Stop()
		t.expirer = nil
	}
	return r, true
}

// leave removes a reader. The last one starts the grace period.
func (t *Transfer) leave(r *Reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.readers, r)
	t.delivered = t.delivered || r.delivered
	t.closeKept()
	if t.window != nil {
		t.wake()
	}
	if len(t.readers) == 0 && !t.done && t.expirer == nil {
		t.expirer = time.AfterFunc(t.grace, t.abandon)
	}
}

// abandon cancels a transfer without readers, unless it has a file and is worth finishing: at least half of the object
// has arrived, or a reader has left with a part. Readers of parts come back for the next part, and a new transfer for
// each of them would fetch the beginning of the object again.
func (t *Transfer) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.readers) > 0 || t.done {
		return
	}
	if t.window == nil && t.size > 0 && (t.delivered || t.inFile >= t.size/2) {
		return
	}
	t.abandoned = true
	t.cancel(ErrAbandoned)
}
