// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// maxTokens bounds the number of tokens that are kept. There is one for each repository.
const maxTokens = 512

// tokens is the token cache of one credential. The library asks for a new token whenever a request was refused, so
// all requests that a token's end catches on their way would ask one after the other. A request that began before
// the present token came uses that one instead.
type tokens struct {
	mu    sync.Mutex
	cache auth.Cache
	since map[string]time.Time
}

type begunKey struct{}

// withBegun notes in a context when a request began.
func withBegun(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, begunKey{}, at)
}

func newTokens() *tokens {
	return &tokens{cache: auth.NewCache(), since: map[string]time.Time{}}
}

// GetScheme implements auth.Cache.
func (t *tokens) GetScheme(ctx context.Context, registry string) (auth.Scheme, error) {
	return t.current().GetScheme(ctx, registry)
}

// GetToken implements auth.Cache.
func (t *tokens) GetToken(ctx context.Context, registry string, scheme auth.Scheme, key string) (string, error) {
	return t.current().GetToken(ctx, registry, scheme, key)
}

// Set implements auth.Cache.
func (t *tokens) Set(ctx context.Context, registry string, scheme auth.Scheme, key string, fetch func(context.Context) (string, error)) (string, error) {
	begun, _ := ctx.Value(begunKey{}).(time.Time)
	t.mu.Lock()
	cache, fresh := t.cache, t.since[key].After(begun)
	t.mu.Unlock()
	if fresh {
		if token, err := cache.GetToken(ctx, registry, scheme, key); err == nil {
			return token, nil
		}
	}
	return cache.Set(ctx, registry, scheme, key, func(ctx context.Context) (string, error) {
		token, err := fetch(ctx)
		if err == nil {
			t.note(key)
		}
		return token, err
	})
}

func (t *tokens) current() auth.Cache {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cache
}

func (t *tokens) note(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.since) >= maxTokens {
		t.cache, t.since = auth.NewCache(), map[string]time.Time{}
	}
	t.since[key] = time.Now()
}
