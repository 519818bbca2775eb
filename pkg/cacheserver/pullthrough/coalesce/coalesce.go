// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package coalesce lets callers that ask for the same thing at the same time share one answer.
//
// Unlike golang.org/x/sync/singleflight, the work belongs to none of the callers: it runs under the group's own
// context, so a caller that gives up (its client hung up, its deadline is over) neither stops it nor waits for it.
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
	// Begun is when the work began. Who joins late need not be as patient as who came first.
	Begun time.Time

	done  chan struct{}
	value V
	err   error
}

// New returns a group without any work.
func New[K comparable, V any]() *Group[K, V] {
	ctx, cancel := context.WithCancel(context.Background())
	return &Group[K, V]{ctx: ctx, cancel: cancel, calls: map[K]*Call[V]{}}
}

// Start returns the running call for key, or begins one with work. Joined says that it was running already. Work has
// to limit its own time.
func (g *Group[K, V]) Start(key K, work func(ctx context.Context) (V, error)) (call *Call[V], joined bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if call, ok := g.calls[key]; ok {
		return call, true
	}
	call = &Call[V]{Begun: time.Now(), done: make(chan struct{})}
	if g.closed {
		call.err = ErrClosed
		close(call.done)
		return call, false
	}
	g.calls[key] = call
	g.work.Add(1)
	go g.run(key, call, work)
	return call, false
}

func (g *Group[K, V]) run(key K, call *Call[V], work func(ctx context.Context) (V, error)) {
	defer g.work.Done()
	defer close(call.done)
	defer func() {
		g.mu.Lock()
		delete(g.calls, key)
		g.mu.Unlock()
	}()
	// What panics here would take the whole server down, while the same panic in a handler only ends a request.
	defer func() {
		if reason := recover(); reason != nil {
			call.err = fmt.Errorf("internal error: %v", reason)
		}
	}()
	call.value, call.err = work(g.ctx)
}

// Wait returns the answer, or ctx's error when that ends first.
func (c *Call[V]) Wait(ctx context.Context) (V, error) {
	select {
	case <-c.done:
		return c.value, c.err
	default:
	}
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		var zero V
		return zero, ctx.Err()
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
