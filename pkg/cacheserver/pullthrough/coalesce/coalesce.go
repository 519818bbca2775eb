// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package coalesce lets concurrent callers share the result of one piece of work.
//
// Unlike golang.org/x/sync/singleflight, the work belongs to none of the callers: it runs under the group's own context,
// so a caller that gives up, because its client hung up or its deadline passed, neither stops the work for the others nor
// waits for it. Work is cancelled when its last caller gives up, unless a caller wants it to finish in the background.
package coalesce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrClosed is the error of all calls of a closed group.
var ErrClosed = errors.New("shutting down")

// Group shares results by key. Create one with New.
type Group[K comparable, V any] struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	calls  map[K]*Call[V]
	closed bool
	work   sync.WaitGroup
}

// Call is one piece of work and its results: the final one, and an early one that it may publish.
type Call[V any] struct {
	// Begun is when the work began, for callers whose deadline counts from there.
	Begun time.Time

	early, final milestone[V]

	// callers is how many still want the result; guarded by the group's mu. Leave is called by each that gives up.
	callers   int
	published bool // guarded by the group's mu
	leave     func()
	cancel    context.CancelFunc
}

// milestone is a result that callers can wait for.
type milestone[V any] struct {
	done  chan struct{}
	value V
	err   error
}

func (m *milestone[V]) reach(value V, err error) {
	m.value, m.err = value, err
	close(m.done)
}

// New returns a group without calls.
func New[K comparable, V any]() *Group[K, V] {
	ctx, cancel := context.WithCancel(context.Background())
	return &Group[K, V]{ctx: ctx, cancel: cancel, calls: map[K]*Call[V]{}}
}

// Start returns the running call for key, or begins one with work. Joined reports that it was running already. Work has
// to limit its own time. Its context ends when the last caller has given up waiting. A caller that never waits never
// gives up, so the work then runs to its end.
func (g *Group[K, V]) Start(key K, work func(ctx context.Context) (V, error)) (call *Call[V], joined bool) {
	return g.StartStaged(key, func(ctx context.Context, _ func(V)) (V, error) { return work(ctx) })
}

// StartStaged is Start for work with an early result, which it publishes once at most. From then on the work runs to its
// end, whoever waits, and the next caller begins a new call. Work that fails before, or publishes nothing, has its final
// result as its early one.
func (g *Group[K, V]) StartStaged(key K, work func(ctx context.Context, publish func(V)) (V, error)) (call *Call[V], joined bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if call, ok := g.calls[key]; ok {
		call.callers++
		return call, true
	}
	call = &Call[V]{Begun: time.Now(), callers: 1}
	call.early.done, call.final.done = make(chan struct{}), make(chan struct{})
	call.leave = func() { g.leave(key, call) }
	if g.closed {
		call.cancel = func() {}
		var zero V
		call.early.reach(zero, ErrClosed)
		call.final.reach(zero, ErrClosed)
		return call, false
	}
	var ctx context.Context
	ctx, call.cancel = context.WithCancel(g.ctx)
	g.calls[key] = call
	g.work.Add(1)
	go g.run(ctx, key, call, work)
	return call, false
}

// leave cancels a call with its last caller. The next caller begins another one.
func (g *Group[K, V]) leave(key K, call *Call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if call.callers--; call.callers == 0 && !call.published {
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

// Forget lets the next callers begin new calls, since the running ones may be stuck.
func (g *Group[K, V]) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.calls)
}

// publish makes the early result known, unless all callers have left.
func (g *Group[K, V]) publish(key K, call *Call[V], value V) {
	g.mu.Lock()
	defer g.mu.Unlock()
	call.published = true
	g.forget(key, call)
	call.early.reach(value, nil)
}

func (g *Group[K, V]) run(ctx context.Context, key K, call *Call[V], work func(ctx context.Context, publish func(V)) (V, error)) {
	defer g.work.Done()
	value, err := protected(ctx, work, func(value V) { g.publish(key, call, value) })
	g.mu.Lock()
	g.forget(key, call)
	g.mu.Unlock()
	call.cancel()
	if !call.published {
		call.early.reach(value, err)
	}
	call.final.reach(value, err)
}

// protected turns a panic into an error: here it would take the whole server down, while in a handler it only ends a
// request.
func protected[V any](ctx context.Context, work func(context.Context, func(V)) (V, error), publish func(V)) (value V, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("internal error: %v", reason)
		}
	}()
	return work(ctx, publish)
}

// Wait returns the final result, or the error of ctx when that ends first.
func (c *Call[V]) Wait(ctx context.Context) (V, error) {
	return c.final.wait(ctx, c.leave)
}

// WaitUntil is Wait with a deadline. When that passes, it returns context.DeadlineExceeded and the work continues in the
// background.
func (c *Call[V]) WaitUntil(ctx context.Context, deadline time.Time) (V, error) {
	return c.final.waitUntil(ctx, deadline, c.leave)
}

// WaitEarlyUntil is WaitUntil for the early result.
func (c *Call[V]) WaitEarlyUntil(ctx context.Context, deadline time.Time) (V, error) {
	return c.early.waitUntil(ctx, deadline, c.leave)
}

// wait calls leave if ctx ends first.
func (m *milestone[V]) wait(ctx context.Context, leave func()) (V, error) {
	if err := m.await(ctx); err != nil {
		leave()
		var zero V
		return zero, err
	}
	return m.value, m.err
}

func (m *milestone[V]) waitUntil(ctx context.Context, deadline time.Time, leave func()) (V, error) {
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := m.await(limited); err != nil {
		if ctx.Err() != nil {
			leave()
		}
		var zero V
		return zero, err
	}
	return m.value, m.err
}

// await prefers a result to the end of ctx.
func (m *milestone[V]) await(ctx context.Context) error {
	select {
	case <-m.done:
		return nil
	default:
	}
	select {
	case <-m.done:
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
