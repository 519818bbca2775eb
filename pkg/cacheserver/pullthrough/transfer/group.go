// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// ErrClosed is the end of every transfer of a closed group.
var ErrClosed = errors.New("shutting down")

// Group holds the transfers of one store, at most one of each object that can be joined.
type Group struct {
	grace  time.Duration
	stall  time.Duration
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	transfers map[digest.Digest]*Transfer
	closed    bool
	work      sync.WaitGroup
}

// Work produces an object for a transfer: it calls Begin, then Advance or Pass for all bytes, then Verified. What it
// does after Verified, such as committing, no reader waits for, but whoever comes meanwhile still joins this transfer.
type Work func(ctx context.Context, f *Transfer) error

// NewGroup returns a group without transfers. Grace is how long a transfer that nobody waits for goes on.
func NewGroup(grace time.Duration) *Group {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Group{grace: grace, stall: defaultStall, ctx: ctx, cancel: cancel, transfers: map[digest.Digest]*Transfer{}}
}

// Join returns a reader of the running transfer for a digest, or nil.
func (g *Group) Join(d digest.Digest) *Reader {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.transfers[d]; ok {
		if r, ok := f.join(); ok {
			return r
		}
	}
	return nil
}

// Start returns a reader of the running transfer for a digest, or of a new one that does the work, on behalf of an owner
// that Reader.Owner tells. Joined says that it was running already.
func (g *Group) Start(d digest.Digest, owner string, work Work) (reader *Reader, joined bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.transfers[d]; ok {
		if r, ok := f.join(); ok {
			return r, true, nil
		}
	}
	if g.closed {
		return nil, false, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(g.ctx)
	f := newTransfer(owner, g.grace, g.stall, cancel)
	reader, _ = f.join()
	g.transfers[d] = f
	g.work.Add(1)
	go g.run(ctx, d, f, work)
	return reader, false, nil
}

// Active reports whether a transfer for the digest is running.
func (g *Group) Active(d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.transfers[d]
	return ok
}

func (g *Group) run(ctx context.Context, d digest.Digest, f *Transfer, work Work) {
	defer g.work.Done()
	err := guarded(ctx, f, work)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	g.mu.Lock()
	if g.transfers[d] == f {
		delete(g.transfers, d)
	}
	g.mu.Unlock()
	f.finish(err)
	f.cancel(nil)
}

// guarded turns a panic into an error: here it would take the whole server down.
func guarded(ctx context.Context, f *Transfer, work Work) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("internal error: %v", reason)
		}
	}()
	return work(ctx, f)
}

// Close cancels all transfers and waits for their end.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel(ErrClosed)
	g.work.Wait()
}
