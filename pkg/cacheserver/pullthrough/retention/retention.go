// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package retention decides what the cache keeps.
//
// It expires objects that were not used for the time to live, and evicts the least recently used objects when the volume
// fills up. Using an image uses everything that it needs (see package index), so an object outlives the last image that
// needs it. Removal takes the content and its links, and frees the space.
//
// All of this runs in the background, on knowledge that survives restarts. Changed settings apply to stored content.
package retention

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

// Reasons for a removal.
const (
	Expired = "expired"
	Evicted = "evicted"
	Corrupt = "corrupt"
)

const (
	flushInterval     = 10 * time.Second
	reconcileInterval = 24 * time.Hour
	minSweep          = 200 * time.Millisecond
	maxSweep          = time.Minute
)

// Options are the settings of a Keeper.
type Options struct {
	// TTL is how long an object is kept after its last use; 0 is forever.
	TTL time.Duration
	// High is the used fraction of the volume, from 0 to 1, above which objects are evicted down to Low.
	High, Low float64
	// ScrubInterval is how often content on disk is verified; 0 is never.
	ScrubInterval time.Duration
	// ScrubRate is the number of bytes verified per second; 0 is no limit.
	ScrubRate int64
}

// Keeper removes content in the background.
type Keeper struct {
	Options Options
	Store   *store.Store
	Index   *index.Index
	Metrics *metrics.Metrics
	Log     logrus.FieldLogger
	Now     func() time.Time
	// Busy reports whether an object is being fetched or verified. It is not removed then.
	Busy func(digest.Digest) bool
	// Removing is called with each object that is about to be removed, and why; may be nil. It must not block.
	Removing func(d digest.Digest, reason string)
	// Volume counts the long calls to the volume, each removal by itself: eviction takes long, but goes on. Short ones
	// would look as if the volume responded to requests.
	Volume *volume.Monitor

	room     sync.Mutex
	reserved atomic.Int64
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	k.removeOrphans(ctx)
	var scrubber sync.WaitGroup
	defer scrubber.Wait()
	if k.Options.ScrubInterval > 0 {
		scrubber.Go(func() { k.scrub(ctx) })
	}
	k.report(k.openIndex())
	k.report(k.learn(ctx))
	k.Metrics.StorageUsed.Set(float64(k.Index.Total()))
	interval := flushInterval
	if ttl := k.Options.TTL; ttl > 0 {
		interval = min(interval, max(minSweep, min(ttl/10, maxSweep)))
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	reconcile := time.NewTicker(reconcileInterval)
	defer reconcile.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reconcile.C:
			k.report(k.Reconcile(ctx))
		case <-ticker.C:
			if !k.Index.Ready() {
				k.report(k.openIndex())
			}
			k.report(k.learn(ctx))
			k.report(k.Tick(ctx))
		}
	}
}

// openIndex opens the index, and makes room for it if necessary.
func (k *Keeper) openIndex() error {
	err := k.Index.Reopen()
	if store.IsFull(err) {
		k.report(k.evictUnknown())
		err = k.Index.Reopen()
	}
	if err != nil {
		return err
	}
	return k.Index.Measure()
}

// learn fills an index that does not know all stored content, because it is new or replaces a damaged one.
func (k *Keeper) learn(ctx context.Context) error {
	if !k.Index.Ready() || k.Index.Complete() {
		return nil
	}
	return k.Reconcile(ctx)
}

// Tick writes pending uses, expires, and evicts above the high watermark.
func (k *Keeper) Tick(ctx context.Context) error {
	errs := []error{k.Index.Flush()}
	if k.Options.TTL > 0 && k.Index.Complete() {
		errs = append(errs, k.expire(ctx))
	}
	if space, err := k.Store.Space(); err == nil {
		k.Metrics.VolumeBytes.WithLabelValues("total").Set(float64(space.Total))
		k.Metrics.VolumeBytes.WithLabelValues("free").Set(float64(space.Free))
		if used := float64(space.Total - space.Free); used > k.Options.High*float64(space.Total) {
			release, _ := k.MakeRoom(0)
			release()
		}
	}
	k.Metrics.StorageUsed.Set(float64(k.Index.Total()))
	return errors.Join(errs...)
}

// expire removes objects that were not used for the time to live.
func (k *Keeper) expire(ctx context.Context) error {
	deadline := k.Now().Add(-k.Options.TTL)
	var errs []error
	err := k.Index.Each(func(d digest.Digest, record index.Record) error {
		if record.Used.Before(deadline) {
			if _, err := k.remove(d, Expired, deadline); err != nil {
				errs = append(errs, err)
			}
		}
		return ctx.Err()
	})
	return errors.Join(append(errs, ignoreCanceled(err))...)
}

// DropCorrupt removes content that does not match its digest or cannot be read.
func (k *Keeper) DropCorrupt(d digest.Digest, cause error) error {
	k.Metrics.Corrupt.Inc()
	k.Log.WithError(cause).WithField("digest", d).Warn("Dropped corrupt content")
	return k.Remove(d, Corrupt)
}

// MarkVerified records that a file matches its digest.
func (k *Keeper) MarkVerified(d digest.Digest, info fs.FileInfo) error {
	return k.Index.Change(d, func(r *index.Record) {
		r.Size, r.Verified = info.Size(), k.Now()
		r.Inode, r.Changed = store.Identity(info)
	})
}

// Remove removes an object that must not be served any more.
func (k *Keeper) Remove(d digest.Digest, reason string) error {
	_, err := k.remove(d, reason, time.Time{})
	return err
}

// remove removes an object and its links, unless it was used since the given time, and returns the bytes freed.
func (k *Keeper) remove(d digest.Digest, reason string, unusedSince time.Time) (freed int64, err error) {
	unlock := k.Store.Lock(d)
	defer unlock()
	defer k.Volume.Long().Returned()
	record, known := k.Index.Get(d)
	if reason != Corrupt && (!known || k.Busy(d)) || !unusedSince.IsZero() && record.Used.After(unusedSince) {
		return 0, nil
	}
	// The content goes first: corrupt content has to go even if the index does not know its links yet. Dangling links
	// read as a miss until Reconcile removes them.
	if err := k.removeBlob(d, reason); err != nil {
		return 0, err
	}
	k.count(record, reason)
	links, err := k.Index.Links(d)
	for _, link := range links {
		err = errors.Join(err, k.unlink(d, link))
	}
	return record.Size, errors.Join(err, k.Index.Forget(d))
}

// removeBlob removes the content of an object. The reason is announced first: a request that comes as soon as the content
// is gone should know it.
func (k *Keeper) removeBlob(d digest.Digest, reason string) error {
	if k.Removing != nil {
		k.Removing(d, reason)
	}
	return k.Store.RemoveBlob(d)
}

// count counts an object that was removed.
func (k *Keeper) count(record index.Record, reason string) {
	kind := metrics.Blob
	if record.Manifest {
		kind = metrics.Manifest
	}
	k.Metrics.Removed.WithLabelValues(kind, reason).Inc()
	k.Metrics.RemovedBytes.WithLabelValues(reason).Add(float64(record.Size))
}

func (k *Keeper) unlink(d digest.Digest, link index.Link) error {
	if link.Kind == index.Layer {
		return k.Store.UnlinkLayer(link.Repository, d)
	}
	tags, err := k.Store.UnlinkManifest(link.Repository, d)
	return errors.Join(err, k.forgetTags(link.Repository, tags))
}

func (k *Keeper) forgetTags(repository string, tags []string) (err error) {
	for _, tag := range tags {
		err = errors.Join(err, k.Index.ForgetTag(repository, tag))
	}
	return err
}

// removeOrphans removes uploads that an earlier process left behind.
func (k *Keeper) removeOrphans(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	removed, err := k.Store.RemoveOrphans()
	k.report(err)
	if removed > 0 {
		k.Log.WithField("count", removed).Info("Removed unfinished uploads of an earlier run")
	}
}

func (k *Keeper) report(err error) {
	if ignoreCanceled(err) != nil {
		k.Log.WithError(err).Warn("Failed to maintain the cache; retrying")
	}
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
