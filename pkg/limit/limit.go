// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package limit bounds how much work runs at a time.
package limit

import (
	"context"
	"errors"
)

// ErrBusy is the error of work that is refused or gives up because too much other work is running.
var ErrBusy = errors.New("too many requests at a time")

// Limit is a number of slots, each of which admits one piece of work.
type Limit chan struct{}

// New returns a limit with n free slots.
func New(n int) Limit { return make(Limit, n) }

// Acquire waits for a slot and returns what releases it. It fails with the cause of ctx when that ends first.
func (l Limit) Acquire(ctx context.Context) (release func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case l <- struct{}{}:
		return l.release, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// TryAcquire returns what releases a slot if one is free.
func (l Limit) TryAcquire() (release func(), ok bool) {
	select {
	case l <- struct{}{}:
		return l.release, true
	default:
		return nil, false
	}
}

// Do runs work in a slot.
func (l Limit) Do(ctx context.Context, work func() error) error {
	release, err := l.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	return work()
}

func (l Limit) release() { <-l }
