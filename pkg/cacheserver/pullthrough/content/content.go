// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package content is the only access to the content of the cache: the files of package store, what package index knows
// about them, and what package retention keeps of them.
//
// Each method leaves the three consistent, or in a state that retention repairs: the index learns of content before the
// files do, so that after a crash nothing on disk is unknown, and a link is written before its content. A dangling link
// reads as a miss; content without links does not occur.
//
// The index records the identity of each file that was verified: inode, size and time of change. A file that differs
// has to be verified before it is served.
package content

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

// indexFile is next to Distribution's files, in a directory that a stock registry ignores.
const indexFile = "pullthrough/index.db"

// maxRemoved bounds the removals that are remembered, in about 4 MiB.
const maxRemoved = 16384

// ErrNotFound means that the cache does not hold the content.
var ErrNotFound = store.ErrNotFound

// ErrMismatch means that content differs from what its digest promises.
var ErrMismatch = store.ErrMismatch

// IsFull reports whether an error means that the volume has no room.
func IsFull(err error) bool { return store.IsFull(err) }

// Options are what a Content is made of.
type Options struct {
	// RootDirectory is that of Distribution's filesystem driver.
	RootDirectory string
	Disk          store.Disk
	// Volume counts the calls to the volume.
	Volume    *volume.Monitor
	Retention retention.Options
	// Busy reports whether content is on its way or being verified. Such content is not removed.
	Busy    func(digest.Digest) bool
	Metrics *metrics.Metrics
	Log     logrus.FieldLogger
	Now     func() time.Time
}

// Content is what one cache holds.
type Content struct {
	store  *store.Store
	index  *index.Index
	keeper *retention.Keeper
	volume *volume.Monitor
	// removed is why objects were removed, the latest ones.
	removed *lru.Cache[digest.Digest, string]
	log     logrus.FieldLogger
	now     func() time.Time
}

// Open opens the content below a directory. It takes the same time however much content there is.
func Open(o Options) (*Content, error) {
	files, err := store.Open(o.RootDirectory, o.Disk)
	if err != nil {
		return nil, err
	}
	known, err := index.Open(filepath.Join(o.RootDirectory, indexFile), o.Now)
	if err != nil {
		return nil, fmt.Errorf("open the index of %s: %w", o.RootDirectory, err)
	}
	removed, _ := lru.New[digest.Digest, string](maxRemoved) // It fails for sizes below 1 only.
	keeper := &retention.Keeper{
		Options: o.Retention, Store: files, Index: known, Metrics: o.Metrics, Log: o.Log, Now: o.Now, Busy: o.Busy, Volume: o.Volume,
		Removing: func(d digest.Digest, reason string) { removed.Add(d, reason) },
	}
	return &Content{store: files, index: known, keeper: keeper, volume: o.Volume, removed: removed, log: o.Log, now: o.Now}, nil
}

// Run expires, evicts, scrubs and reconciles until ctx ends.
func (c *Content) Run(ctx context.Context) { c.keeper.Run(ctx) }

// Close closes the index. Run has to have ended.
func (c *Content) Close() error { return c.index.Close() }

// Removed returns why content was removed from the cache, as far as this process remembers.
func (c *Content) Removed(d digest.Digest) (reason string, ok bool) { return c.removed.Get(d) }

// Usage is the space of the cache, in bytes.
type Usage struct {
	// Used is the size of the content, Size and Free are those of the volume.
	Used, Size, Free int64
	// Full is set if eviction leaves no room on the volume.
	Full bool
}

// Usage returns the space of the cache.
func (c *Content) Usage() (Usage, error) {
	space, err := c.store.Space()
	return Usage{Used: c.index.Total(), Size: int64(space.Total), Free: int64(space.Free), Full: c.keeper.IsFull(space)}, err
}

// Probe writes to the volume and syncs, and returns when the volume has responded.
func (c *Content) Probe() {
	if err := c.store.Probe(); err != nil {
		c.log.WithError(err).Debug("Failed to write to the volume to find out whether it responds")
	}
}

// Touch records a use of content.
func (c *Content) Touch(d digest.Digest) { c.index.Touch(d) }

// DropCorrupt removes content that does not match its digest or cannot be read.
func (c *Content) DropCorrupt(d digest.Digest, cause error) error {
	return c.keeper.DropCorrupt(d, cause)
}

// warn logs an error of the index or of a link. Neither is worth failing a request: reconciliation repairs both.
func (c *Content) warn(err error, message string, fields logrus.Fields) {
	if err != nil && !store.IsFull(err) {
		c.log.WithError(err).WithFields(fields).Warn(message)
	}
}
