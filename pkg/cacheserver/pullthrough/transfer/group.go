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

// ErrClosed ends the transfers of a closed group.
var ErrClosed = errors.New("shutting down")

// Group has the transfers of one store. At most one transfer of each object can be joined.
type Group struct {
	grace   time.Duration
	stall   time.Duration
	hanging func() <-chan struct{}
	ctx     context.Context
	cancel  context.CancelCauseFunc

	mu        sync.Mutex
	transfers map[digest.Digest]*Transfer
	closed    bool
	work      sync.WaitGroup
}

// Work produces an object for a transfer: it calls Begin, then Advance or Pass for all bytes, then Verified. Readers do
// not wait for what it does afterwards, such as committing the object, but new readers join the transfer until it
// returns.
type Work func(ctx context.Context, t *Transfer) error

// NewGroup returns a group without transfers. Grace is how long a transfer without readers continues. Hanging returns a
// channel that is closed when the volume hangs; it may be nil. Readers do not wait then, unless the transfer does
// without the volume.
func NewGroup(grace time.Duration, hanging func() <-chan struct{}) *Group {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Group{grace: grace, stall: defaultStall, hanging: hanging, ctx: ctx, cancel: cancel, transfers: map[digest.Digest]*Transfer{}}
}

// Start returns a reader of the running transfer for a digest, or of a new one that runs work for an owner, which
// Reader.Owner returns. Joined reports whether the transfer was already running.
func (g *Group) Start(d digest.Digest, owner string, work Work) (reader *Reader, joined bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t, ok := g.transfers[d]; ok {
		if r, ok := t.join(); ok {
			return r, true, nil
		}
	}
	if g.closed {
		return nil, false, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(g.ctx)
	t := newTransfer(owner, g, cancel)
	reader, _ = t.join()
	g.transfers[d] = t
	g.work.Add(1)
	go g.run(ctx, d, t, work)
	return reader, false, nil
}

// Active reports whether a transfer for the digest is running.
func (g *Group) Active(d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.transfers[d]
	return ok
}

func (g *Group) run(ctx context.Context, d digest.Digest, t *Transfer, work Work) {
	defer g.work.Done()
	err := guarded(ctx, t, work)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	g.mu.Lock()
	if g.transfers[d] == t {
		delete(g.transfers, d)
	}
	g.mu.Unlock()
	t.finish(err)
	t.cancel(nil)
}

// guarded converts a panic to an error, since it would crash the server in this goroutine.
func guarded(ctx context.Context, t *Transfer, work Work) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("internal error: %v", reason)
		}
	}()
	return work(ctx, t)
}

// Close cancels all transfers and waits for their end.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel(ErrClosed)
	g.work.Wait()
}
