// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package transfer streams one object to any number of readers while it arrives.
//
// A transfer is the work that makes an object available: a download into the store, or the verification of a file that
// is on disk already. It belongs to nobody: readers come and go, each at its own pace, and each gets every byte from
// the first, however late it came. The bytes are in a file that grows, of which each reader holds a descriptor of its
// own, so that the kernel can send from it and memory does not depend on the number of readers. The transfer holds one as
// long as it has readers, for those that have not opened theirs when the file is removed, since it could not be stored.
//
// The last byte of the object is held back until all of it has been verified. So a reader of a wrong object is left with
// an answer that is visibly incomplete. A part that ends before the last byte is delivered as soon as it has arrived:
// holding back the end of a part would hold up all other readers of a transfer without a disk, whose verification needs
// room in the window that this reader does not make.
//
// When the disk takes no more bytes, a transfer goes on without it: the bytes pass through a small window in memory,
// and the producer waits for the slowest of its readers (see window). A reader that joins after the window has moved on
// starts a transfer of its own.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Unknown is the size of an object whose size nobody has told yet.
const Unknown int64 = -1

const (
	// announceBytes and announceDelay bound how often readers are woken: by so many new bytes, or after so long.
	announceBytes = 1 << 20
	announceDelay = 5 * time.Millisecond
)

// ErrAbandoned ends a transfer that nobody waits for.
var ErrAbandoned = errors.New("abandoned, since nobody waits for it")

// ErrTooSlow ends a reader that held up the other readers of a transfer without a disk for too long.
var ErrTooSlow = errors.New("reader is too slow for a fetch that cannot be stored and has other readers")

// Transfer is one object on its way. The producer calls Begin, Advance or Pass, Verified; readers see a Reader.
type Transfer struct {
	owner string

	mu sync.Mutex
	// changed is closed and replaced whenever readers should look again.
	changed chan struct{}

	begun    bool
	size     int64
	open     func() (*os.File, error)
	kept     *os.File // for readers that cannot open the file any more
	inFile   int64    // bytes that the file holds
	window   *window
	verified bool
	done     bool
	err      error

	announced int64
	alarm     *time.Timer
	readers   map[*Reader]struct{}

	grace   time.Duration
	stall   time.Duration
	cancel  context.CancelCauseFunc
	expirer *time.Timer
	// abandoned transfers are cancelled, but may take a while to end.
	abandoned bool
	// delivered says that a reader has left with the part that it asked for, and may come back for others.
	delivered bool
}

func newTransfer(owner string, grace, stall time.Duration, cancel context.CancelCauseFunc) *Transfer {
	return &Transfer{
		owner:   owner,
		changed: make(chan struct{}),
		size:    Unknown,
		readers: map[*Reader]struct{}{},
		grace:   grace,
		stall:   stall,
		cancel:  cancel,
	}
}

// Begin announces the size of the object, or Unknown, and how a reader opens the file that holds it. Open may be nil
// if there is no file; then all bytes go by Pass.
func (f *Transfer) Begin(size int64, open func() (*os.File, error)) {
	var kept *os.File
	if open != nil {
		kept, _ = open() // Readers will meet the error, too, if it lasts.
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun, f.size, f.open, f.kept = true, size, open, kept
	f.wake()
}

// Advance announces that the file holds n more good bytes.
func (f *Transfer) Advance(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.inFile == 0
	f.inFile += int64(n)
	// After the last bytes Verified follows at once, and saves the readers a wake-up.
	if f.inFile != f.size && (first || f.inFile-f.announced >= announceBytes) {
		f.announce()
		return
	}
	if f.alarm == nil {
		f.alarm = time.AfterFunc(announceDelay, f.announceLate)
	}
}

// Verified announces that the object is complete and is what it should be, and how large it is.
func (f *Transfer) Verified(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verified, f.size = true, size
	f.announce()
}

// Wanted reports whether there are readers. If not, the transfer is abandoned: a producer that has waited for its turn asks
// before it begins.
func (f *Transfer) Wanted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.abandoned = f.abandoned || len(f.readers) == 0
	return !f.abandoned
}

// Progress returns how many bytes have arrived and the object's size.
func (f *Transfer) Progress() (arrived, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.arrived(), f.size
}

func (f *Transfer) arrived() int64 {
	if f.window != nil {
		return f.window.end
	}
	return f.inFile
}

// finish ends the transfer. Readers of a verified transfer lose nothing by an error that comes after.
func (f *Transfer) finish(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && !f.verified {
		err = fmt.Errorf("ended unverified")
	}
	f.done, f.err = true, err
	f.stopTimers()
	f.letGo()
	f.wake()
}

// letGo closes the file when nobody can need it any more. The caller holds mu.
func (f *Transfer) letGo() {
	if f.kept != nil && f.done && len(f.readers) == 0 {
		_ = f.kept.Close() // It was only read.
		f.kept = nil
	}
}

func (f *Transfer) stopTimers() {
	for _, timer := range []*time.Timer{f.alarm, f.expirer} {
		if timer != nil {
			timer.Stop()
		}
	}
	f.alarm, f.expirer = nil, nil
}

func (f *Transfer) announce() {
	if f.alarm != nil {
		f.alarm.Stop()
		f.alarm = nil
	}
	f.announced = f.inFile
	f.wake()
}

func (f *Transfer) announceLate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alarm = nil
	if !f.done && f.announced < f.inFile {
		f.announce()
	}
}

// wake tells all who wait to look again. The caller holds mu.
func (f *Transfer) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// join adds a reader, unless the transfer has no future or the bytes that it would need first are gone.
func (f *Transfer) join() (*Reader, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done || f.abandoned || f.window != nil && f.window.start > f.inFile {
		return nil, false
	}
	r := &Reader{transfer: f, marked: unmarked}
	f.readers[r] = struct{}{}
	if f.expirer != nil {
		f.expirer.Stop()
		f.expirer = nil
	}
	return r, true
}

// leave removes a reader. The last one starts the grace period.
func (f *Transfer) leave(r *Reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.readers, r)
	f.delivered = f.delivered || r.delivered
	f.letGo()
	if f.window != nil {
		f.wake()
	}
	if len(f.readers) == 0 && !f.done && f.expirer == nil {
		f.expirer = time.AfterFunc(f.grace, f.abandon)
	}
}

// abandon cancels a transfer without readers, unless what it has brought is kept and worth more than a new start: at least
// half of the object, or a part that a reader has left with. Readers of parts come back for the next one, and starting
// again for each of them would fetch the beginning as often.
func (f *Transfer) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.readers) > 0 || f.done {
		return
	}
	if f.window == nil && f.size > 0 && (f.delivered || f.inFile >= f.size/2) {
		return
	}
	f.abandoned = true
	f.cancel(ErrAbandoned)
}
