// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

// commit makes an upload a blob of a repository.
func (e *Engine) commit(repository string, d digest.Digest, size int64, upload *store.Upload) error {
	unlock := e.store.Lock(d)
	defer unlock()
	// Knowledge first: should this be interrupted, nothing is on disk that is not known.
	err := e.index.Introduce(d, index.Record{Size: size}, nil, index.Link{Kind: index.Layer, Repository: repository})
	if err != nil {
		e.log.WithError(err).Warn("Could not record a blob") // Reconcile will find it.
	}
	if err := e.store.LinkLayer(repository, d); err != nil {
		return err
	}
	if err := upload.Commit(d); err != nil {
		return err
	}
	e.markVerified(d)
	return nil
}

// markVerified notes the identity of a file that has just been verified.
func (e *Engine) markVerified(d digest.Digest) {
	info, err := e.store.StatBlob(d)
	if err != nil {
		return
	}
	err = e.index.Change(d, func(r *index.Record) {
		r.Size, r.Verified = info.Size(), e.now()
		r.Inode, r.Changed = store.Identity(info)
	})
	if err != nil {
		e.log.WithError(err).Warn("Could not record a verification")
	}
}

// isStored reports whether a blob is on disk as it was when it was last verified.
func (e *Engine) isStored(d digest.Digest) bool {
	info, err := e.store.StatBlob(d)
	if err != nil {
		return false
	}
	record, known := e.index.Get(d)
	return known && trusted(record, info)
}

// verification returns the work of hashing a file that is not known to be good.
func (e *Engine) verification(d digest.Digest) transfer.Work {
	return func(ctx context.Context, f *transfer.Transfer) error {
		file, info, err := e.store.OpenBlob(d)
		if err != nil {
			return err
		}
		defer file.Close()
		done, err := turn(ctx, e.hashes)
		if err != nil {
			return err
		}
		defer done()
		if !f.Wanted() {
			return transfer.ErrAbandoned
		}
		if _, known := e.index.Get(d); !known {
			if err := e.index.Put(d, index.Record{Size: info.Size()}); err != nil {
				e.log.WithError(err).Warn("Could not record a blob")
			}
		}
		f.Begin(info.Size(), func() (*os.File, error) {
			file, _, err := e.store.OpenBlob(d)
			return file, err
		})
		size, err := hashFile(ctx, f, file, d)
		if errors.Is(err, errMismatch) {
			e.metrics.Corrupt.Inc()
			e.log.WithField("digest", d).Warn("Dropped content that does not match its digest")
			return errors.Join(err, e.keeper.Remove(d, retention.Corrupt))
		}
		if err == nil {
			e.markVerified(d)
			f.Verified(size)
		}
		return err
	}
}

func hashFile(ctx context.Context, f *transfer.Transfer, file io.Reader, d digest.Digest) (int64, error) {
	pooled := downloadBuffers.Get().(*[]byte)
	defer downloadBuffers.Put(pooled)
	verifier := d.Verifier()
	var size int64
	for ctx.Err() == nil {
		n, err := file.Read(*pooled)
		_, _ = verifier.Write((*pooled)[:n])
		size += int64(n)
		f.Advance(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return size, err
		}
	}
	if ctx.Err() != nil {
		return size, context.Cause(ctx)
	}
	if !verifier.Verified() {
		return size, errMismatch
	}
	return size, nil
}
