// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package lru is a cache in memory that is bounded by the size of its entries.
package lru

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Cache keeps the values that were used most recently. It is safe for concurrent use.
type Cache[K comparable, V any] struct {
	limit, maxEntry int
	size            func(K, V) int

	mu      sync.Mutex
	used    int
	entries *simplelru.LRU[K, V]
}

// New returns a cache whose entries have a total size of at most limit. An entry larger than maxEntry is not kept.
func New[K comparable, V any](limit, maxEntry int, size func(K, V) int) *Cache[K, V] {
	c := &Cache[K, V]{limit: limit, maxEntry: maxEntry, size: size}
	c.entries, _ = simplelru.NewLRU(math.MaxInt, func(key K, value V) { c.used -= size(key, value) }) // It fails for sizes below 1 only.
	return c
}

// Get returns the value of a key.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Get(key)
}

// Add sets the value of a key.
func (c *Cache[K, V]) Add(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(key)
	size := c.size(key, value)
	if size > c.maxEntry {
		return
	}
	c.entries.Add(key, value)
	c.used += size
	for c.used > c.limit {
		c.entries.RemoveOldest()
	}
}

// Remove drops a key.
func (c *Cache[K, V]) Remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(key)
}
