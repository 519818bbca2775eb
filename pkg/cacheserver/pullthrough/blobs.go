// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

// settleBytes is up to which size a file that has to be verified is verified before its first byte is sent, so that
// the client does not notice when it has to be fetched instead. Larger ones are sent meanwhile.
const settleBytes = 64 << 20

// blobStore serves the blobs of a repository.
type blobStore struct {
	unsupportedBlobs
	engine     *Engine
	repository string
}

// Stat implements distribution.BlobStatter. Distribution calls it before ServeBlob, which finds out for itself, and
// after, for events.
func (b *blobStore) Stat(_ context.Context, d digest.Digest) (v1.Descriptor, error) {
	descriptor := v1.Descriptor{Digest: d, MediaType: "application/octet-stream"}
	if info, err := b.engine.store.StatBlob(d); err == nil {
		descriptor.Size = info.Size()
	}
	return descriptor, nil
}

// ServeBlob implements distribution.BlobServer.
func (b *blobStore) ServeBlob(ctx context.Context, w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	e := b.engine
	e.metrics.Requests.WithLabelValues(metrics.Blob).Inc()
	unknown := v2ErrorBlobUnknown(d)
	c, err := e.openBlob(ctx, b.repository, d, r.Method == http.MethodHead)
	if err != nil {
		return clientError(ctx, err, unknown)
	}
	defer c.Close() //nolint:errcheck // It was only read.

	h := w.Header()
	h.Set("ETag", `"`+d.String()+`"`)
	h.Set("Cache-Control", "max-age=31536000")
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Content-Type", "application/octet-stream")
	body := newBodyWriter(ctx, w)
	switch {
	case c.file != nil:
		http.ServeContent(body, r, "", time.Time{}, c.file)
	case c.reader == nil:
		// HEAD of what is not there. Nothing was fetched.
		if c.size >= 0 {
			h.Set("Accept-Ranges", "bytes")
			h.Set("Content-Length", strconv.FormatInt(c.size, 10))
		}
		body.WriteHeader(http.StatusOK)
	case c.size >= 0:
		// Ranges are served as the bytes arrive: one that is far from the beginning waits until the fetch has come there.
		http.ServeContent(body, oneRange(r), "", time.Time{}, &transferContent{reader: c.reader, size: c.size})
	default:
		body.WriteHeader(http.StatusOK)
		_, err := c.reader.Copy(ctx, writerFunc(body.copyTo), 0, transfer.Unknown)
		body.note(0, err)
	}
	if c.file != nil && body.written == c.size {
		e.doubts.note(clientOf(ctx), d, e.now())
	}
	body.count()
	e.served(metrics.Blob, body.written, c.hit)
	if body.err != nil {
		// The header is out. The only way left to say that the body is not what was promised is not to end it.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// oneRange drops a request for several ranges, which servers may ignore. For those net/http reads in a goroutine that can
// outlive the request, and a transfer's reader must not.
func oneRange(r *http.Request) *http.Request {
	if !strings.Contains(r.Header.Get("Range"), ",") {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	return r
}

// served counts an answer.
func (e *Engine) served(kind string, bytes int64, hit bool) {
	e.metrics.PushedBytes.WithLabelValues(kind).Add(float64(bytes))
	if hit {
		e.metrics.Hits.WithLabelValues(kind).Inc()
		e.metrics.SavedBytes.WithLabelValues(kind).Add(float64(bytes))
	}
}

// blobContent is where the bytes of a blob come from: a verified file, or a transfer, or (for HEAD) nowhere.
type blobContent struct {
	file   *os.File
	reader *transfer.Reader
	size   int64
	// hit says that nothing had to be fetched for this client.
	hit bool
}

// Close lets go of the file or transfer.
func (c *blobContent) Close() error {
	if c.file != nil {
		return c.file.Close()
	}
	if c.reader != nil {
		return c.reader.Close()
	}
	return nil
}

// openBlob finds the content of a blob: on disk, on its way, or upstream. What is on its way at the first look can be on
// disk before a fetch of its own begins.
func (e *Engine) openBlob(ctx context.Context, repository string, d digest.Digest, headOnly bool) (*blobContent, error) {
	c, err := e.findBlob(ctx, repository, d, headOnly)
	if errors.Is(err, errStored) {
		return e.findBlob(ctx, repository, d, headOnly)
	}
	return c, err
}

func (e *Engine) findBlob(ctx context.Context, repository string, d digest.Digest, headOnly bool) (*blobContent, error) {
	owned := e.owns(repository, d)
	if !owned && headOnly {
		return e.statUpstream(ctx, repository, d)
	}
	file, info, err := e.store.OpenBlob(d)
	missing := errors.Is(err, store.ErrNotFound)
	if err == nil && !owned {
		if err := e.claim(ctx, repository, d); err != nil {
			_ = file.Close()
			return nil, err
		}
		owned = true
	}
	if err == nil {
		record, known := e.index.Get(d)
		if known && trusted(record, info) && !e.doubts.about(clientOf(ctx), d, record.Verified, e.now()) {
			e.index.Touch(d)
			return &blobContent{file: file, size: info.Size(), hit: true}, nil
		}
		_ = file.Close()
		c, err := e.verified(ctx, d)
		if err == nil {
			e.index.Touch(d)
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
	} else if !missing {
		return nil, err
	}
	if headOnly {
		return e.statUpstream(ctx, repository, d)
	}
	fetch := e.download(repository, d)
	if missing {
		fetch = e.unlessStored(d, fetch)
	}
	return e.fetched(ctx, repository, d, fetch, owned)
}

// trusted reports whether a file is as it was when it was last verified.
func trusted(record index.Record, info os.FileInfo) bool {
	inode, changed := store.Identity(info)
	return !record.Verified.IsZero() && record.Size == info.Size() && record.Inode == inode && record.Changed == changed
}

// verified serves a file by way of a transfer that hashes it.
func (e *Engine) verified(ctx context.Context, d digest.Digest) (*blobContent, error) {
	reader, _, err := e.blobs.Start(d, "", e.verification(d))
	if err != nil {
		return nil, err
	}
	size, err := reader.Size(ctx)
	if err == nil && size <= settleBytes {
		size, err = reader.Settled(ctx)
	}
	if err != nil {
		_ = reader.Close()
		return nil, err
	}
	return &blobContent{reader: reader, size: size, hit: true}, nil
}

// maxJoined is how many fetches of other repositories may fail before a client is told of the last.
const maxJoined = 3

// fetched serves a blob that is not on disk by way of the transfer that fetches it. One that was begun for another
// repository is followed only when it is certain that this one has the blob, too.
func (e *Engine) fetched(ctx context.Context, repository string, d digest.Digest, fetch transfer.Work, owned bool) (*blobContent, error) {
	for attempt := 0; ; attempt++ {
		reader, joined, err := e.blobs.Start(d, repository, fetch)
		if err != nil {
			return nil, err
		}
		foreign := reader.Owner() != repository
		if foreign && !owned {
			if err := e.claim(ctx, repository, d); err != nil {
				_ = reader.Close()
				return nil, err
			}
			owned = true
		}
		size, err := reader.Size(ctx)
		if err == nil && size == 0 {
			size, err = reader.Settled(ctx) // There is no last byte to hold back until it is verified.
		}
		if err == nil {
			if joined {
				e.metrics.Coalesced.WithLabelValues(metrics.Blob).Inc()
				if foreign && !e.store.HasLayer(repository, d) {
					e.link(repository, d) // The fetch links it for its owner only.
				}
			}
			return &blobContent{reader: reader, size: size, hit: joined}, nil
		}
		_ = reader.Close()
		// Another repository's fetch says nothing about this one.
		if !foreign || attempt == maxJoined || errors.Is(err, errStored) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// statUpstream answers HEAD of a blob that is not there.
func (e *Engine) statUpstream(ctx context.Context, repository string, d digest.Digest) (*blobContent, error) {
	call, joined := e.sizes.Start(repository+"@"+d.String(), func(ctx context.Context) (int64, error) {
		return e.upstream.StatBlob(ctx, repository, d)
	})
	if joined {
		e.metrics.Coalesced.WithLabelValues(metrics.Blob).Inc()
	}
	size, err := call.Wait(ctx)
	if err != nil {
		return nil, err
	}
	if declared := e.declaredSize(ctx, repository, d); declared != transfer.Unknown {
		size = declared // There are upstreams whose HEAD tells any length.
	}
	return &blobContent{size: size}, nil
}

// declaredSize is the size of a blob as an image of the repository has it, transfer.Unknown if there is no such image.
func (e *Engine) declaredSize(ctx context.Context, repository string, d digest.Digest) int64 {
	for size := range e.declaredSizes(ctx, repository, d) {
		return size
	}
	return transfer.Unknown
}

// declares reports whether any image of the repository has a blob with this size.
func (e *Engine) declares(ctx context.Context, repository string, d digest.Digest, size int64) bool {
	for declared := range e.declaredSizes(ctx, repository, d) {
		if declared == size {
			return true
		}
	}
	return false
}

// declaredSizes visits the sizes of a blob that the images of a repository declare. They should all be the same.
func (e *Engine) declaredSizes(ctx context.Context, repository string, d digest.Digest) iter.Seq[int64] {
	return func(visit func(int64) bool) {
		for image := range e.imagesThatNeed(repository, d) {
			m, err := e.manifest(ctx, repository, image)
			if err != nil {
				continue
			}
			info, err := e.parse(ctx, m.content, m.mediaType)
			if err != nil {
				continue
			}
			for _, child := range info.Children {
				if child.Digest == d && child.Size > 0 && !visit(child.Size) {
					return
				}
			}
		}
	}
}

func v2ErrorBlobUnknown(d digest.Digest) error {
	return errcode.ErrorCodeBlobUnknown.WithDetail(d)
}

// Get implements distribution.BlobProvider.
func (b *blobStore) Get(ctx context.Context, d digest.Digest) ([]byte, error) {
	c, err := b.engine.openBlob(ctx, b.repository, d, false)
	if remote.Is(err, remote.NotFound) {
		return nil, distribution.ErrBlobUnknown
	}
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // It was only read.
	if c.file != nil {
		return io.ReadAll(c.file)
	}
	content := make([]byte, 0, max(c.size, 0))
	w := writerFunc(func(source io.Reader) (int64, error) {
		part, err := io.ReadAll(source)
		content = append(content, part...)
		return int64(len(part)), err
	})
	_, err = c.reader.Copy(ctx, w, 0, transfer.Unknown)
	return content, err
}
