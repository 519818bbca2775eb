// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package coalesce lets callers that ask for the same thing at the same time share one answer.
//
// Unlike golang.org/x/sync/singleflight, the work belongs to none of the callers: it runs under the group's own
// context, so a caller that gives up (its client hung up, its deadline is over) neither stops it for the others nor waits
// for it. Work is cancelled when its last caller gives up, unless a caller wants it to finish in the background.
package coalesce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrClosed is the answer of a closed group.
var ErrClosed = errors.New("shutting down")

// Group shares answers by key. Create one with New.
type Group[K comparable, V any] struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	calls  map[K]*Call[V]
	closed bool
	work   sync.WaitGroup
}

// Call is one piece of work and its answer.
type Call[V any] struct {
	// Begun is when the work began. Callers that join late need not be as patient as the first one.
	Begun time.Time

	done  chan struct{}
	value V
	err   error

	// callers is how many still want the answer; guarded by the group's mu. Leave is called by each that gives up.
	callers int
	leave   func()
	cancel  context.CancelFunc
}

// New returns a group without any work.
func New[K comparable, V any]() *Group[K, V] {
	ctx, cancel := context.WithCancel(context.Background())
	return &Group[K, V]{ctx: ctx, cancel: cancel, calls: map[K]*Call[V]{}}
}

// Start returns the running call for key, or begins one with work. Joined says that it was running already. Work has
// to limit its own time. Its context ends when the last caller has given up waiting. A caller that never waits never gives
// up, so the work then runs to its end.
func (g *Group[K, V]) Start(key K, work func(ctx context.Context) (V, error)) (call *Call[V], joined bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if call, ok := g.calls[key]; ok {
		call.callers++
		return call, true
	}
	call = &Call[V]{Begun: time.Now(), done: make(chan struct{}), callers: 1}
	if g.closed {
		call.err = ErrClosed
		close(call.done)
		return call, false
	}
	var ctx context.Context
	ctx, call.cancel = context.WithCancel(g.ctx)
	call.leave = func() { g.leave(key, call) }
	g.calls[key] = call
	g.work.Add(1)
	go g.run(ctx, key, call, work)
	return call, false
}

// leave cancels a call with its last caller. The next one to ask begins another.
func (g *Group[K, V]) leave(key K, call *Call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if call.callers--; call.callers == 0 {
		g.forget(key, call)
		call.cancel()
	}
}

// forget removes a call, so that no caller joins it. The caller holds mu.
func (g *Group[K, V]) forget(key K, call *Call[V]) {
	if g.calls[key] == call {
		delete(g.calls, key)
	}
}

func (g *Group[K, V]) run(ctx context.Context, key K, call *Call[V], work func(ctx context.Context) (V, error)) {
	defer g.work.Done()
	defer close(call.done)
	defer func() {
		g.mu.Lock()
		g.forget(key, call)
		g.mu.Unlock()
		call.cancel()
	}()
	// What panics here would take the whole server down, while the same panic in a handler only ends a request.
	defer func() {
		if reason := recover(); reason != nil {
			call.err = fmt.Errorf("internal error: %v", reason)
		}
	}()
	call.value, call.err = work(ctx)
}

// Wait returns the answer, or ctx's error when that ends first.
func (c *Call[V]) Wait(ctx context.Context) (V, error) {
	if err := c.await(ctx); err != nil {
		c.leave()
		var zero V
		return zero, err
	}
	return c.value, c.err
}

// WaitUntil is Wait with a deadline. When that passes, it returns context.DeadlineExceeded and the work continues in the
// background.
func (c *Call[V]) WaitUntil(ctx context.Context, deadline time.Time) (V, error) {
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := c.await(limited); err != nil {
		if ctx.Err() != nil {
			c.leave()
		}
		var zero V
		return zero, err
	}
	return c.value, c.err
}

// await returns when the answer is there, or with ctx's error when that ends first.
func (c *Call[V]) await(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close cancels all work and waits for its end.
func (g *Group[K, V]) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.work.Wait()
}
