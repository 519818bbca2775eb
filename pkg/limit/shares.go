// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"context"
	"sync"
)

// Shares are limits by key, such as the part of a common limit that one client may use. A key takes memory only while
// work has or waits for one of its slots.
type Shares[K comparable] struct {
	most int

	mu    sync.Mutex
	byKey map[K]*share
}

type share struct {
	slots Limit
	users int // guarded by the mutex of Shares
}

// NewShares returns limits with n free slots for each key.
func NewShares[K comparable](n int) *Shares[K] { return &Shares[K]{most: n, byKey: map[K]*share{}} }

// Acquire waits for a slot of a key and returns what releases it. It fails with the cause of ctx when that ends first.
func (s *Shares[K]) Acquire(ctx context.Context, key K) (release func(), err error) {
	slot, err := s.enter(key).Acquire(ctx)
	if err != nil {
		s.leave(key)
		return nil, err
	}
	return func() {
		slot()
		s.leave(key)
	}, nil
}

// Len returns the number of keys that take memory.
func (s *Shares[K]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey)
}

func (s *Shares[K]) enter(key K) Limit {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.byKey[key]
	if own == nil {
		own = &share{slots: New(s.most)}
		s.byKey[key] = own
	}
	own.users++
	return own.slots
}

func (s *Shares[K]) leave(key K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own := s.byKey[key]; own.users == 1 {
		delete(s.byKey, key)
	} else {
		own.users--
	}
}
