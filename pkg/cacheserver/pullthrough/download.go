// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

var (
	errMismatch = errors.New("the content does not match its digest")
	errBusy     = errors.New("too many requests at a time")
	// errStored ends a fetch of what another one has stored since it was looked for.
	errStored = errors.New("the content is stored already")
)

const (
	// downloadBytes is how much is written at a time, if it arrives fast. Files that are written like that lie in the
	// page cache in large pieces, from which the kernel sends with less work; the upstream's TLS alone would cut them
	// into pieces of 16 KiB.
	downloadBytes = 256 << 10
	// downloadDelay bounds how long bytes wait for more to be written with them.
	downloadDelay = 2 * time.Millisecond
	// maxWaiting is how many fetches may wait for their turn: a herd of nodes that want different images, and not more
	// than memory has room for.
	maxWaiting = 1024
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// minProgress is what a fetch has to bring to count as more than another failure. Without it, an upstream that breaks
	// off or dries up after every few bytes would be asked again without an end.
	minProgress = 64 << 10
	// maxRateLimit is the longest rate limit that a fetch waits for.
	maxRateLimit = time.Minute
)

// maxLarge is how many fetches have buffers of downloadBytes. When there are more at a time, each gets little of the
// upstream, and pieces are small anyway.
const maxLarge = 16

var downloadBuffers = sync.Pool{New: func() any {
	buffer := make([]byte, downloadBytes)
	return &buffer
}}

// buffer returns a buffer for what arrives, until it is returned.
func (e *Engine) buffer() (buffer []byte, giveBack func()) {
	pool, done := &copyBuffers, func() {}
	select {
	case e.large <- struct{}{}:
		pool, done = &downloadBuffers, func() { <-e.large }
	default:
	}
	pooled := pool.Get().(*[]byte)
	return *pooled, func() {
		pool.Put(pooled)
		done()
	}
}

// download is one fetch of a blob.
type download struct {
	engine     *Engine
	repository string
	digest     digest.Digest
	transfer   *transfer.Transfer

	hash   hash.Hash
	size   int64 // of the whole blob, or transfer.Unknown
	offset int64 // bytes that have arrived, and are hashed
	etag   string
	begun  bool
	// upload takes the bytes; nil if they are not stored.
	upload *store.Upload
	// room is what is still to be written of it.
	room *retention.Reservation
	// releases are called at the end.
	releases []func()
}

// download returns the work of fetching a blob by way of a repository.
func (e *Engine) download(repository string, d digest.Digest) transfer.Work {
	return func(ctx context.Context, f *transfer.Transfer) error {
		started := time.Now()
		dl := &download{engine: e, repository: repository, digest: d, transfer: f, size: transfer.Unknown, hash: d.Algorithm().Hash()}
		defer dl.release()
		if err := dl.take(ctx, e.fetches); err != nil {
			return err
		}
		if !f.Wanted() {
			return transfer.ErrAbandoned
		}
		if err := dl.run(ctx); err != nil {
			e.metrics.FillErrors.WithLabelValues(reason(err)).Inc()
			if dl.begun && ctx.Err() == nil {
				// Clients are no longer told why: they only see that their answers break off.
				e.log.WithError(err).WithField("digest", d).Warn("A fetch of a blob broke off")
			}
			return err
		}
		if dl.upload == nil {
			e.metrics.Unstored.Inc()
			return nil
		}
		if err := e.commit(repository, d, dl.size, dl.upload); err != nil {
			// The readers have what they wanted; the next one will have to fetch again.
			e.log.WithError(err).WithField("digest", d).Warn("Could not store a blob")
			return nil
		}
		e.metrics.FillDuration.Observe(time.Since(started).Seconds())
		return nil
	}
}

// unlessStored returns work that ends at once if another fetch has stored the blob by then.
func (e *Engine) unlessStored(d digest.Digest, fetch transfer.Work) transfer.Work {
	return func(ctx context.Context, f *transfer.Transfer) error {
		if e.isStored(d) {
			return errStored
		}
		return fetch(ctx, f)
	}
}

// take waits for a turn, as long as there are clients that do: who is sent away asks elsewhere for what is fetched in a
// moment. The fetches before have limits of their own.
func (d *download) take(ctx context.Context, turns chan struct{}) error {
	waiting := &d.engine.waiting
	defer waiting.Add(-1)
	if waiting.Add(1) > maxWaiting {
		return errBusy
	}
	select {
	case turns <- struct{}{}:
		d.releases = append(d.releases, func() { <-turns })
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *download) release() {
	if d.upload != nil {
		d.upload.Discard()
	}
	d.room.Release()
	for _, release := range d.releases {
		release()
	}
}

// run fetches until all is there and verified, resuming when the upstream breaks off.
func (d *download) run(ctx context.Context) error {
	e := d.engine
	backoff := minBackoff
	for failures := 0; ; {
		before := d.offset
		err := d.fetch(ctx)
		if err == nil {
			break
		}
		if !d.retryable(err) || ctx.Err() != nil {
			return err
		}
		if failures++; d.offset-before >= minProgress {
			failures, backoff = 1, minBackoff
		}
		if failures > e.options.Retries || d.offset == 0 && (failures > 1 || silent(err)) {
			return err
		}
		e.metrics.Resumed.Inc()
		if !sleep(ctx, max(backoff, retryAfter(err))) {
			return context.Cause(ctx)
		}
		backoff = min(2*backoff, maxBackoff)
	}
	if digest.NewDigest(d.digest.Algorithm(), d.hash) != d.digest {
		return errMismatch
	}
	e.metrics.Misses.WithLabelValues(metrics.Blob).Inc()
	d.size = d.offset
	d.transfer.Verified(d.size)
	return nil
}

// retryable reports whether trying again may help, because the upstream is there but did not finish. A rate limit is
// waited for only when clients have got a part already: before, they are told, and know better whether to wait.
func (d *download) retryable(err error) bool {
	var e *remote.Error
	switch {
	case !errors.As(err, &e):
		return errors.Is(err, errBroken)
	case e.Reason == remote.RateLimited:
		return d.offset > 0 && e.RetryAfter <= maxRateLimit
	}
	return e.Reason == remote.Unavailable
}

// retryAfter returns how long a rate limit lasts, 0 if err tells of none.
func retryAfter(err error) time.Duration {
	var e *remote.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.RetryAfter
}

// silent reports whether the upstream did not answer at all, which took its time already.
func silent(err error) bool {
	var e *remote.Error
	return errors.As(err, &e) && e.Status == 0
}

// errBroken says that the upstream broke off.
var errBroken = errors.New("the upstream broke off")

// fetch makes one request for what is missing and takes in what it gets.
func (d *download) fetch(ctx context.Context) error {
	if !d.begun {
		d.size = d.engine.declaredSize(ctx, d.repository, d.digest)
	}
	from := remote.Position{Offset: d.offset, ETag: d.etag, Size: d.size}
	blob, err := d.engine.upstream.FetchBlob(ctx, d.repository, d.digest, from)
	if err != nil {
		return err
	}
	defer blob.Body.Close()
	switch {
	case !d.begun:
		if err := d.begin(ctx, blob); err != nil {
			return err
		}
	case d.size != transfer.Unknown && blob.Size >= 0 && blob.Size != d.size:
		return errMismatch
	}
	// An upstream that ignores ranges begins anew. What is known is skipped; the digest will tell if it is the same.
	if _, err := io.CopyN(io.Discard, blob.Body, d.offset-blob.Offset); err != nil {
		return broken(err)
	}
	return d.takeIn(ctx, blob.Body)
}

// checkAnswer refuses what cannot be the blob, such as the login page of a portal, as long as clients can be told. It settles
// the size: that of the wire, if it is told, which is also that of an image.
func (d *download) checkAnswer(ctx context.Context, blob *remote.Blob) error {
	e, cause := d.engine, ""
	switch {
	case blob.Size >= 0 && d.size != transfer.Unknown && blob.Size != d.size && !e.declares(ctx, d.repository, d.digest, blob.Size):
		cause = fmt.Sprintf("it sent %d bytes instead of the %d that the image declares for %s", blob.Size, d.size, d.digest)
	case blob.Page && (blob.Size < 0 || d.size == transfer.Unknown):
		cause = fmt.Sprintf("it answered with a web page instead of %s", d.digest)
	}
	if cause != "" {
		return e.invalid(cause)
	}
	if blob.Size >= 0 {
		d.size = blob.Size
	}
	return nil
}

// begin prepares for the first bytes, when the size is known.
func (d *download) begin(ctx context.Context, blob *remote.Blob) error {
	e := d.engine
	if err := d.checkAnswer(ctx, blob); err != nil {
		return err
	}
	d.begun, d.etag = true, blob.ETag
	var err error
	if d.room, err = e.keeper.Reserve(d.size); err == nil {
		d.upload, err = e.store.NewUpload(d.repository)
	}
	upload := d.upload
	if err != nil {
		if !store.IsFull(err) {
			e.log.WithError(err).Warn("Cannot store; passing content through")
		}
		d.room.Release()
		if err := d.take(ctx, e.unstored); err != nil {
			return err
		}
		d.transfer.Begin(d.size, nil)
		return nil
	}
	d.transfer.Begin(d.size, func() (*os.File, error) {
		// Where the bytes are depends on whether they have been committed since.
		file, err := upload.OpenReader()
		if errors.Is(err, os.ErrNotExist) {
			file, _, err = e.store.OpenBlob(d.digest)
		}
		return file, err
	})
	return nil
}

// takeIn reads a body to its end. What has arrived is put away when the buffer is full, or with the next bytes if these
// take their time; so bytes are late by one read of the upstream at most.
func (d *download) takeIn(ctx context.Context, body io.Reader) error {
	buffer, giveBack := d.engine.buffer()
	defer giveBack()
	pulled := d.engine.metrics.PulledBytes.WithLabelValues(metrics.Blob)
	filled, put := 0, time.Time{}
	for {
		n, err := body.Read(buffer[filled:])
		pulled.Add(float64(n))
		if d.size != transfer.Unknown && d.offset+int64(filled+n) > d.size {
			return errMismatch
		}
		filled += n
		ended := err != nil || d.offset+int64(filled) == d.size
		if filled > 0 && (ended || filled == len(buffer) || time.Since(put) > downloadDelay) {
			_, _ = d.hash.Write(buffer[:filled])
			d.offset += int64(filled)
			if err := d.put(ctx, buffer[:filled]); err != nil {
				return err
			}
			filled, put = 0, time.Now()
		}
		switch {
		case err == io.EOF && d.size == transfer.Unknown, err != nil && d.offset == d.size:
			return nil
		case err != nil:
			return broken(err)
		}
	}
}

// broken marks an error of a body, unless it tells more by itself.
func broken(err error) error {
	var e *remote.Error
	if errors.As(err, &e) {
		return err
	}
	return errBroken
}

// put stores bytes, or passes them on if they cannot be stored.
func (d *download) put(ctx context.Context, p []byte) error {
	if d.upload == nil {
		return d.transfer.Pass(ctx, p)
	}
	n, err := d.write(p)
	if err == nil {
		return nil
	}
	p = p[n:]
	if store.IsFull(err) && d.size != transfer.Unknown {
		// Somebody else took the space that was reserved.
		d.room.Release()
		if d.room, err = d.engine.keeper.Reserve(d.size - d.offset + int64(len(p))); err == nil {
			if n, err = d.write(p); err == nil {
				return nil
			}
			p = p[n:]
		}
	} else if !store.IsFull(err) {
		d.engine.log.WithError(err).Warn("Cannot go on storing; passing content through")
	}
	if err := d.take(ctx, d.engine.unstored); err != nil {
		return err
	}
	// What has been written is still read by others. The file goes when the transfer ends.
	d.releases = append(d.releases, d.upload.Discard)
	d.upload = nil
	d.room.Release()
	return d.transfer.Pass(ctx, p)
}

// write stores bytes as far as there is space.
func (d *download) write(p []byte) (int, error) {
	if d.size == transfer.Unknown && d.room.Left() < int64(len(p)) {
		// It may have no end, and must not take more than is there for it.
		d.room.Release()
		var err error
		if d.room, err = d.engine.keeper.Reserve(transfer.Unknown); err != nil {
			return 0, err
		}
	}
	n, err := d.upload.Write(p)
	d.room.Wrote(int64(n))
	d.transfer.Advance(n)
	return n, err
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
