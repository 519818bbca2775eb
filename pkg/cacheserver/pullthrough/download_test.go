// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/upstream"
	"github.com/larder-project/larder/test/upstreamsim"
)

// scripted is an upstream of blobs, whose answers a test gives.
type scripted struct {
	upstream.Registry
	fetch func(ctx context.Context, d digest.Digest, from upstream.Position) (*upstream.Blob, error)
}

func (s *scripted) FetchBlob(ctx context.Context, _ string, d digest.Digest, from upstream.Position) (*upstream.Blob, error) {
	return s.fetch(ctx, d, from)
}

// cut ends like a connection that breaks off.
func cut(data []byte) io.ReadCloser {
	return io.NopCloser(io.MultiReader(bytes.NewReader(data), errorReader{}))
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

var _ = Describe("Download", func() {
	layer := upstreamsim.NewLayer(1, 1000)

	DescribeTable("that is resumed into a rate limit", func(ctx context.Context, limit time.Duration, delivered bool) {
		var requests atomic.Int32
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.Upstream = &scripted{fetch: func(_ context.Context, _ digest.Digest, from upstream.Position) (*upstream.Blob, error) {
				blob := &upstream.Blob{Offset: from.Offset, Size: 1000}
				switch requests.Add(1) {
				case 1:
					blob.Body = cut(layer.Data[:500])
				case 2:
					return nil, &upstream.Error{Reason: upstream.RateLimited, Status: http.StatusTooManyRequests, RetryAfter: limit}
				default:
					blob.Body = io.NopCloser(bytes.NewReader(layer.Data[from.Offset:]))
				}
				return blob, nil
			}}
		})
		n, err := c.client.Blob(ctx, name, layer.Descriptor().Digest)
		if delivered {
			Expect(err).NotTo(HaveOccurred())
			Expect(n).To(BeEquivalentTo(1000))
			Expect(requests.Load()).To(BeEquivalentTo(3))
		} else {
			Expect(err).To(HaveOccurred())
			Expect(requests.Load()).To(BeEquivalentTo(2))
		}
	},
		Entry("waits for its end", 10*time.Millisecond, true),
		Entry("ends if that is far", time.Hour, false),
	)
})
