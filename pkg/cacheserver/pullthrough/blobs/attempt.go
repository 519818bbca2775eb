// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

const (
	// fetchBytes is how much is written at a time if it arrives fast. Files that are written like that lie in the page
	// cache in large pieces, which the kernel sends with less work. Each read of the upstream's TLS alone yields at
	// most 16 KiB.
	fetchBytes = 256 << 10
	// fetchDelay bounds how long bytes wait for more to be written with them.
	fetchDelay = 2 * time.Millisecond
	smallBytes = 32 << 10
)

var fetchBuffers, smallBuffers = newPool(fetchBytes), newPool(smallBytes)

func newPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		buffer := make([]byte, size)
		return &buffer
	}}
}

// buffer returns a buffer, a large one while there are few fetches, and a function that returns it to its pool.
func (s *Service) buffer() (buffer []byte, giveBack func()) {
	pool, release := smallBuffers, func() {}
	if acquired, ok := s.large.TryAcquire(); ok {
		pool, release = fetchBuffers, acquired
	}
	pooled := pool.Get().(*[]byte)
	return *pooled, func() {
		pool.Put(pooled)
		release()
	}
}

// attempt requests the missing bytes and receives the response.
func (f *fetch) attempt(ctx context.Context) error {
	if !f.begun {
		f.size = f.declaredSize(ctx, f.key)
	}
	from := remote.Position{Offset: f.offset, ETag: f.etag, Size: f.size}
	blob, err := f.Source.FetchBlob(ctx, f.repository, f.digest, from)
	if err != nil {
		return err
	}
	defer blob.Body.Close()
	switch {
	case !f.begun:
		if err := f.begin(ctx, blob); err != nil {
			return err
		}
	case f.size != transfer.Unknown && blob.Size >= 0 && blob.Size != f.size:
		return store.ErrMismatch
	}
	// An upstream that ignores ranges sends all of it again. The known part is skipped; the digest shows if it differs.
	if _, err := io.CopyN(io.Discard, blob.Body, f.offset-blob.Offset); err != nil {
		return f.brokeOff(err)
	}
	return f.receive(ctx, blob.Body)
}

// checkResponse refuses what cannot be the blob, such as the login page of a portal, as long as clients can get an error.
// It adopts the size of the response, which an image of the repository declares as well.
func (f *fetch) checkResponse(ctx context.Context, blob *remote.Blob) error {
	switch {
	case blob.Size >= 0 && f.size != transfer.Unknown && blob.Size != f.size && !f.declares(ctx, blob.Size):
		return f.Source.Invalid(fmt.Sprintf("it sent %d bytes instead of the %d that the image declares for %s", blob.Size, f.size, f.digest))
	case blob.Page && (blob.Size < 0 || f.size == transfer.Unknown):
		return f.Source.Invalid(fmt.Sprintf("it sent a web page instead of %s", f.digest))
	case blob.Size >= 0:
		f.size = blob.Size
	}
	return nil
}

// declares reports whether any image of the repository declares a size of the blob.
func (f *fetch) declares(ctx context.Context, size int64) bool {
	for declared := range f.Manifests.DeclaredSizes(ctx, f.repository, f.digest) {
		if declared == size {
			return true
		}
	}
	return false
}

// begin prepares for the first bytes, when the size is known.
func (f *fetch) begin(ctx context.Context, blob *remote.Blob) error {
	if err := f.checkResponse(ctx, blob); err != nil {
		return err
	}
	f.etag = blob.ETag
	upload, err := f.Content.NewUpload(f.repository, f.digest, f.size)
	if err != nil {
		f.notStored("Failed to store a blob; passing it through", err)
		if err := f.acquire(ctx, f.unstored); err != nil {
			return err
		}
		f.begun = true
		f.transfer.Begin(f.size, nil)
		return nil
	}
	if f.apart {
		upload.KeepUnlinked()
	}
	f.begun, f.upload = true, upload
	f.transfer.Begin(f.size, upload.OpenReader)
	return nil
}

// receive reads a body to its end. It delivers bytes when the buffer is full or fetchDelay has passed since the last
// delivery, so bytes wait for at most one more read.
func (f *fetch) receive(ctx context.Context, body io.Reader) error {
	buffer, giveBack := f.buffer()
	defer giveBack()
	pulled := f.Metrics.PulledBytes.WithLabelValues(metrics.Blob)
	filled, last := 0, time.Time{}
	for {
		n, err := body.Read(buffer[filled:])
		pulled.Add(float64(n))
		f.pulled += int64(n)
		if f.size != transfer.Unknown && f.offset+int64(filled+n) > f.size {
			return store.ErrMismatch
		}
		filled += n
		ended := err != nil || f.offset+int64(filled) == f.size
		if filled > 0 && (ended || filled == len(buffer) || time.Since(last) > fetchDelay) {
			_, _ = f.hash.Write(buffer[:filled])
			f.offset += int64(filled)
			if err := f.deliver(ctx, buffer[:filled]); err != nil {
				return err
			}
			filled, last = 0, time.Now()
		}
		switch {
		case errors.Is(err, io.EOF) && f.size == transfer.Unknown, err != nil && f.offset == f.size:
			return nil
		case err != nil:
			return f.brokeOff(err)
		}
	}
}

// brokeOff replaces an error of a body, unless the error says more by itself.
func (f *fetch) brokeOff(err error) error {
	var e *remote.Error
	if errors.As(err, &e) {
		return err
	}
	return f.Source.BrokeOff()
}

// deliver stores bytes, or passes them to the readers if they cannot be stored.
func (f *fetch) deliver(ctx context.Context, p []byte) error {
	if f.upload == nil {
		return f.transfer.Pass(ctx, p)
	}
	n, err := f.upload.Write(p)
	f.transfer.Advance(n)
	if err == nil {
		return nil
	}
	f.notStored("Failed to store the rest of a blob; streaming it without the disk", err)
	if err := f.acquire(ctx, f.unstored); err != nil {
		return err
	}
	// Readers still need what has been written. The file goes when the fetch ends.
	f.releases = append(f.releases, f.upload.Discard)
	f.upload.Release()
	f.upload = nil
	return f.transfer.Pass(ctx, p[n:])
}
