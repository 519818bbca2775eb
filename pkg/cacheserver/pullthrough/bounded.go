// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// maxRequests is how many requests for small answers are made at a time: enough for a herd of nodes that want different
// images, and few enough that clients that ask and hang up cannot have the cache flood its upstream.
const maxRequests = 64

// bounded is an upstream that gets only so many requests for small answers at a time. Others wait for their turn, and
// give it up when their clients have left. Blobs have turns of their own, see download.
type bounded struct {
	remote.Registry
	turns chan struct{}
	// longest is how long a request waits for its turn. Its client then asks elsewhere.
	longest time.Duration
	pace    *pace
}

// turn waits for a turn and returns what ends it.
func (b *bounded) turn(ctx context.Context) (done func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.longest, errBusy)
	defer cancel()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return turn(ctx, b.turns)
}

// Resolve implements remote.Registry.
func (b *bounded) Resolve(ctx context.Context, repository, tag string) (digest.Digest, error) {
	done, err := b.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	begun := time.Now()
	d, err := b.Registry.Resolve(ctx, repository, tag)
	b.pace.note(time.Since(begun), err)
	return d, err
}

// FetchManifest implements remote.Registry.
func (b *bounded) FetchManifest(ctx context.Context, repository, reference string) (remote.Manifest, error) {
	done, err := b.turn(ctx)
	if err != nil {
		return remote.Manifest{}, err
	}
	defer done()
	begun := time.Now()
	m, err := b.Registry.FetchManifest(ctx, repository, reference)
	b.pace.note(time.Since(begun), err)
	return m, err
}

// StatBlob implements remote.Registry.
func (b *bounded) StatBlob(ctx context.Context, repository string, d digest.Digest) (int64, error) {
	done, err := b.turn(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	return b.Registry.StatBlob(ctx, repository, d)
}

// List implements remote.Registry.
func (b *bounded) List(ctx context.Context, repository, path string, query url.Values) (remote.Document, error) {
	done, err := b.turn(ctx)
	if err != nil {
		return remote.Document{}, err
	}
	defer done()
	return b.Registry.List(ctx, repository, path, query)
}
