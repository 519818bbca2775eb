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

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// batch is how many objects are written to the index at a time.
const batch = 512

// Reconcile makes the index agree with the files: what another server stored becomes known, as just used and
// unverified, and what is gone is forgotten, with the links that a crash or a failed fetch left to it.
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
	// One may have been set to a manifest that could not be stored.
	tags, err := k.Store.RemoveDeadTags(repository)
	return errors.Join(err, k.forgetTags(repository, tags))
}

// addManifest notes what a manifest needs. One that cannot be read will be noticed when it is served.
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
	children := make([]digest.Digest, 0, len(info.Children))
	for _, child := range info.Children {
		children = append(children, child.Digest)
	}
	k.report(k.Index.SetChildren(d, children))
	k.report(k.Index.Change(d, func(r *index.Record) { r.Manifest, r.MediaType = true, info.MediaType }))
}

// linkAdder makes a repository's links of one kind known, and removes those that lead nowhere.
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

// unlinkMissing removes a link to an object that is neither there nor on its way.
func (k *Keeper) unlinkMissing(d digest.Digest, link index.Link) (removed bool, err error) {
	unlock := k.Store.Lock(d)
	defer unlock()
	if _, err := k.Store.StatBlob(d); !errors.Is(err, store.ErrNotFound) || k.Busy(d) {
		return false, nil
	}
	return true, k.unlink(d, link)
}

const (
	// scrubDelay leaves a starting server its disk.
	scrubDelay = time.Minute
	scrubBytes = 256 << 10
)

// scrub compares content with its digests, again and again, slowly.
func (k *Keeper) scrub(ctx context.Context) {
	for sleep(ctx, scrubDelay) {
		k.report(k.ScrubOnce(ctx))
	}
}

// ScrubOnce compares all content with its digests whose last comparison is too long ago.
func (k *Keeper) ScrubOnce(ctx context.Context) error {
	due := k.Now().Add(-k.Options.ScrubInterval)
	return k.Index.Each(func(d digest.Digest, record index.Record) error {
		if record.Verified.After(due) || k.Busy(d) {
			return ctx.Err()
		}
		return k.compare(ctx, d)
	})
}

func (k *Keeper) compare(ctx context.Context, d digest.Digest) error {
	file, info, err := k.Store.OpenBlob(d)
	if err != nil {
		return ctx.Err() //nolint:nilerr // Gone meanwhile; Reconcile's business.
	}
	defer file.Close()
	verifier := d.Verifier()
	for {
		n, err := io.CopyN(verifier, file, scrubBytes)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// Nobody can read it, so it is as good as wrong, and no reason to leave the rest alone.
			k.Metrics.Corrupt.Inc()
			k.Log.WithError(err).WithField("digest", d).Warn("Dropped content that cannot be read")
			return k.Remove(d, Corrupt)
		}
		if k.Options.ScrubRate > 0 && !sleep(ctx, time.Duration(n)*time.Second/time.Duration(k.Options.ScrubRate)) {
			return ctx.Err()
		}
	}
	if verifier.Verified() {
		return k.Index.Change(d, func(r *index.Record) {
			r.Size, r.Verified = info.Size(), k.Now()
			r.Inode, r.Changed = store.Identity(info)
		})
	}
	k.Metrics.Corrupt.Inc()
	k.Log.WithField("digest", d).Warn("Dropped content that does not match its digest")
	return k.Remove(d, Corrupt)
}

// sleep reports whether ctx lasted as long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
