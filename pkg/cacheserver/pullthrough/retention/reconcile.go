// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// batch is the number of objects that are written to the index at a time.
const batch = 512

// Reconcile makes the index agree with the files. It records objects that another server stored, as just used and
// unverified, and forgets objects that are gone, with the links that a crash or a failed fetch left to them.
func (k *Keeper) Reconcile(ctx context.Context) error {
	complete := k.Index.Learn()
	if err := k.addBlobs(ctx); err != nil {
		return err
	}
	err := k.Store.WalkRepositories(func(repository string) error {
		return errors.Join(ctx.Err(), k.addRepository(ctx, repository))
	})
	if err != nil {
		return err
	}
	err = k.Index.Each(func(d digest.Digest, _ index.Record) error {
		unlock := k.Store.Lock(d)
		defer unlock()
		if _, err := k.Store.StatBlob(d); errors.Is(err, store.ErrNotFound) && !k.Busy(d) {
			return errors.Join(ctx.Err(), k.Index.Forget(d))
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	complete()
	return nil
}

func (k *Keeper) addBlobs(ctx context.Context) error {
	found := make([]index.Seen, 0, batch)
	add := func() error {
		defer func() { found = found[:0] }()
		return errors.Join(ctx.Err(), k.Index.Add(found))
	}
	err := k.Store.WalkBlobs(func(d digest.Digest, info fs.FileInfo) error {
		if found = append(found, index.Seen{Digest: d, Record: index.Record{Size: info.Size()}}); len(found) < batch {
			return nil
		}
		return add()
	})
	if err != nil {
		return err
	}
	return add()
}

func (k *Keeper) addRepository(ctx context.Context, repository string) error {
	layers := &linkAdder{keeper: k, ctx: ctx, link: index.Link{Kind: index.Layer, Repository: repository}}
	if err := k.Store.WalkLayers(repository, layers.add); err != nil {
		return err
	}
	manifests := &linkAdder{keeper: k, ctx: ctx, link: index.Link{Kind: index.Manifest, Repository: repository}}
	err := k.Store.WalkManifests(repository, func(d digest.Digest) error {
		k.addManifest(d)
		return manifests.add(d)
	})
	if err := errors.Join(err, layers.flush(), manifests.flush()); err != nil {
		return err
	}
	// A tag may lead to a manifest that could not be stored.
	tags, err := k.Store.RemoveDeadTags(repository)
	return errors.Join(err, k.forgetTags(repository, tags))
}

// addManifest records the children of a manifest. It skips a manifest that cannot be read: serving it finds that out.
func (k *Keeper) addManifest(d digest.Digest) {
	if record, ok := k.Index.Get(d); !ok || record.Manifest {
		return
	}
	content, err := k.Store.ReadBlob(d, manifest.MaxBytes)
	if err != nil {
		return
	}
	info, err := manifest.Parse(content, "")
	if err != nil {
		return
	}
	k.report(k.Index.SetChildren(d, info.Digests()))
	k.report(k.Index.Change(d, func(r *index.Record) { r.Manifest, r.MediaType = true, info.MediaType }))
}

// linkAdder records the links of one kind of a repository, and removes dangling ones.
type linkAdder struct {
	keeper  *Keeper
	ctx     context.Context
	link    index.Link
	pending []digest.Digest
}

func (a *linkAdder) add(d digest.Digest) error {
	if removed, err := a.keeper.unlinkMissing(d, a.link); removed || err != nil {
		return err
	}
	if a.pending = append(a.pending, d); len(a.pending) < batch {
		return nil
	}
	return a.flush()
}

func (a *linkAdder) flush() error {
	defer func() { a.pending = a.pending[:0] }()
	if len(a.pending) == 0 {
		return nil
	}
	return errors.Join(a.ctx.Err(), a.keeper.Index.AddLinks(a.link, a.pending))
}

// unlinkMissing removes a link to an object that is neither stored nor on its way.
func (k *Keeper) unlinkMissing(d digest.Digest, link index.Link) (removed bool, err error) {
	unlock := k.Store.Lock(d)
	defer unlock()
	if _, err := k.Store.StatBlob(d); !errors.Is(err, store.ErrNotFound) || k.Busy(d) {
		return false, nil
	}
	return true, k.unlink(d, link)
}

const (
	// scrubDelay keeps the disk free for a starting server.
	scrubDelay = time.Minute
	scrubBytes = 256 << 10
)

// scrub verifies content over and over.
func (k *Keeper) scrub(ctx context.Context) {
	ticker := time.NewTicker(scrubDelay)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			k.report(k.ScrubOnce(ctx))
		case <-ctx.Done():
			return
		}
	}
}

// ScrubOnce verifies all content that was not verified within the interval.
func (k *Keeper) ScrubOnce(ctx context.Context) error {
	due := k.Now().Add(-k.Options.ScrubInterval)
	pace := rate.NewLimiter(rate.Inf, scrubBytes)
	if k.Options.ScrubRate > 0 {
		pace.SetLimit(rate.Limit(k.Options.ScrubRate))
	}
	return k.Index.Each(func(d digest.Digest, record index.Record) error {
		if record.Verified.After(due) || k.Busy(d) {
			return ctx.Err()
		}
		return k.compare(ctx, d, pace)
	})
}

// compare verifies content at the given pace, and drops it if it is corrupt.
func (k *Keeper) compare(ctx context.Context, d digest.Digest, pace *rate.Limiter) error {
	file, info, err := k.Store.OpenBlob(d)
	if err != nil {
		return ctx.Err() //nolint:nilerr // It was removed meanwhile; Reconcile cleans up.
	}
	defer file.Close()
	verifier := d.Verifier()
	for {
		n, err := io.CopyN(verifier, file, scrubBytes)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return k.DropCorrupt(d, err) // Unreadable content must not keep the rest from being compared.
		}
		if pace.WaitN(ctx, int(n)) != nil {
			return ctx.Err()
		}
	}
	if !verifier.Verified() {
		return k.DropCorrupt(d, store.ErrMismatch)
	}
	return k.MarkVerified(d, info)
}
