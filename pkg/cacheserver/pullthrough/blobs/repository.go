// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blobs

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

const mediaType = "application/octet-stream"

// Repository returns the blobs of a repository, for Distribution.
func (s *Service) Repository(name string) distribution.BlobStore {
	return &repository{service: s, name: name}
}

type repository struct {
	service *Service
	name    string
}

// Stat implements distribution.BlobStatter. Distribution calls it before ServeBlob, which finds out for itself, and after
// it for events.
func (r *repository) Stat(_ context.Context, d digest.Digest) (v1.Descriptor, error) {
	size, _ := r.service.Content.Size(d)
	return v1.Descriptor{Digest: d, Size: size, MediaType: mediaType}, nil
}

// ServeBlob implements distribution.BlobServer.
func (r *repository) ServeBlob(ctx context.Context, w http.ResponseWriter, request *http.Request, d digest.Digest) error {
	s := r.service
	s.Metrics.Requests.WithLabelValues(metrics.Blob).Inc()
	o, err := s.open(ctx, key{r.name, d}, request.Method == http.MethodHead)
	if err != nil {
		return response.Error(ctx, err, errcode.ErrorCodeBlobUnknown.WithDetail(d))
	}
	defer o.close()
	response.From(ctx).Note(o.outcome, o.cause)

	header := w.Header()
	header.Set("ETag", `"`+d.String()+`"`)
	header.Set("Cache-Control", "max-age=31536000")
	header.Set("Docker-Content-Digest", d.String())
	header.Set("Content-Type", mediaType)
	body := response.NewBody(ctx, w)
	switch {
	case o.file != nil:
		http.ServeContent(body, request, "", time.Time{}, o.file)
	case o.reader == nil: // HEAD of a blob that is not here. Nothing was fetched.
		if o.size >= 0 {
			header.Set("Accept-Ranges", "bytes")
			header.Set("Content-Length", strconv.FormatInt(o.size, 10))
		}
		body.WriteHeader(http.StatusOK)
	case o.size >= 0:
		// Ranges are served as the bytes arrive: one that is far from the beginning waits until the fetch gets there.
		http.ServeContent(body, oneRange(request), "", time.Time{}, &stream{reader: o.reader, size: o.size})
	default:
		body.WriteHeader(http.StatusOK)
		_, err := o.reader.Copy(ctx, body.Parts(), 0, transfer.Unknown)
		body.Fail(err)
	}
	written, err := body.Finish()
	if reason := o.unstored(); err == nil && reason != nil {
		response.From(ctx).NoteUnstored(content.IsFull(reason))
	}
	if o.file != nil && written == o.size {
		s.delivered(response.From(ctx).Client(), d)
	}
	s.Metrics.Served(metrics.Blob, written, o.outcome != event.Miss)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// oneRange drops a request for several ranges, which servers may ignore. For those, net/http reads in a goroutine that
// can outlive the request, and the reader of a transfer must not.
func oneRange(r *http.Request) *http.Request {
	if !strings.Contains(r.Header.Get("Range"), ",") {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	return r
}

// Get implements distribution.BlobProvider. A blob is not for memory; Distribution's handlers use ServeBlob.
func (*repository) Get(context.Context, digest.Digest) ([]byte, error) {
	return nil, distribution.ErrUnsupported
}

// Open implements distribution.BlobProvider.
func (*repository) Open(context.Context, digest.Digest) (io.ReadSeekCloser, error) {
	return nil, distribution.ErrUnsupported
}

// Put implements distribution.BlobIngester.
func (*repository) Put(context.Context, string, []byte) (v1.Descriptor, error) {
	return v1.Descriptor{}, distribution.ErrUnsupported
}

// Create implements distribution.BlobIngester.
func (*repository) Create(context.Context, ...distribution.BlobCreateOption) (distribution.BlobWriter, error) {
	return nil, distribution.ErrUnsupported
}

// Resume implements distribution.BlobIngester. It finds no upload: asking for the state of one is no internal error.
func (*repository) Resume(context.Context, string) (distribution.BlobWriter, error) {
	return nil, distribution.ErrBlobUploadUnknown
}

// Mount implements distribution.BlobStore.
func (*repository) Mount(context.Context, reference.Named, digest.Digest) (v1.Descriptor, error) {
	return v1.Descriptor{}, distribution.ErrUnsupported
}

// Delete implements distribution.BlobDeleter.
func (*repository) Delete(context.Context, digest.Digest) error {
	return distribution.ErrUnsupported
}
