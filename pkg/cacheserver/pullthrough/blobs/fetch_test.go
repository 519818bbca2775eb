// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blobs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing/iotest"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/upstreamsim"
)

// scripted is an upstream of blobs, whose answers a test gives.
type scripted struct {
	remote.Registry
	fetch func(ctx context.Context, d digest.Digest, from remote.Position) (*remote.Blob, error)
}

func (s *scripted) FetchBlob(ctx context.Context, _ string, d digest.Digest, from remote.Position) (*remote.Blob, error) {
	return s.fetch(ctx, d, from)
}

// cut ends like a connection that breaks off.
func cut(data []byte) io.ReadCloser {
	return io.NopCloser(io.MultiReader(bytes.NewReader(data), errorReader{}))
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

var _ = Describe("Fetch", func() {
	layer := upstreamsim.NewLayer(1, 1000)

	DescribeTable("that meets a rate limit when it is resumed", func(ctx context.Context, limit time.Duration, delivered bool) {
		var requests atomic.Int32
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.Upstream = &scripted{fetch: func(_ context.Context, _ digest.Digest, from remote.Position) (*remote.Blob, error) {
				blob := &remote.Blob{Offset: from.Offset, Size: 1000}
				switch requests.Add(1) {
				case 1:
					blob.Body = cut(layer.Data[:500])
				case 2:
					return nil, &remote.Error{Reason: remote.RateLimited, Status: http.StatusTooManyRequests, RetryAfter: limit}
				default:
					blob.Body = io.NopCloser(bytes.NewReader(layer.Data[from.Offset:]))
				}
				return blob, nil
			}}
		})
		n, err := c.Client.Blob(ctx, name, layer.Descriptor().Digest)
		if delivered {
			Expect(err).NotTo(HaveOccurred())
			Expect(n).To(BeEquivalentTo(1000))
			Expect(requests.Load()).To(BeEquivalentTo(3))
		} else {
			Expect(err).To(HaveOccurred())
			Expect(requests.Load()).To(BeEquivalentTo(2))
		}
	},
		Entry("waits until it ends", 10*time.Millisecond, true),
		Entry("fails if it is long", time.Hour, false),
	)

	It("is not resumed without end when the upstream sends next to nothing", func(ctx context.Context) {
		var requests atomic.Int32
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.Retries = 2
			o.Upstream = &scripted{fetch: func(_ context.Context, _ digest.Digest, from remote.Position) (*remote.Blob, error) {
				requests.Add(1)
				return &remote.Blob{Offset: from.Offset, Size: 1000, Body: cut(layer.Data[from.Offset : from.Offset+1])}, nil
			}}
		})
		_, err := c.Client.Blob(ctx, name, layer.Descriptor().Digest)
		Expect(err).To(HaveOccurred())
		Expect(requests.Load()).To(BeEquivalentTo(3))
	}, SpecTimeout(2*time.Minute))

	DescribeTable("whose body stops while the upstream is out of reach", func(ctx context.Context, outage time.Duration, delivered bool) {
		const patience = 3 * time.Second
		var stopped time.Time
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.Retries = 1
			o.Upstream = &scripted{fetch: func(_ context.Context, _ digest.Digest, from remote.Position) (*remote.Blob, error) {
				unavailable := &remote.Error{Reason: remote.Unavailable}
				switch {
				case from.Offset == 0:
					stopped, unavailable.Patience = time.Now(), patience
					body := io.MultiReader(bytes.NewReader(layer.Data[:500]), iotest.ErrReader(unavailable))
					return &remote.Blob{Size: 1000, Body: io.NopCloser(body)}, nil
				case time.Since(stopped) < outage:
					return nil, unavailable
				}
				return &remote.Blob{Offset: from.Offset, Size: 1000, Body: io.NopCloser(bytes.NewReader(layer.Data[from.Offset:]))}, nil
			}}
		})
		_, err := c.Client.Blob(ctx, name, layer.Descriptor().Digest)
		if delivered {
			Expect(err).NotTo(HaveOccurred())
		} else {
			Expect(err).To(HaveOccurred())
			Expect(time.Since(stopped)).To(BeNumerically(">=", patience))
		}
	},
		Entry("continues after more failures than retries", 1500*time.Millisecond, true),
		Entry("fails once the body would not have been waited for any longer", time.Hour, false),
	)

	It("is complete with its last byte, even if the connection breaks", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.Upstream = &scripted{fetch: func(context.Context, digest.Digest, remote.Position) (*remote.Blob, error) {
				return &remote.Blob{Size: 1000, Body: cut(layer.Data)}, nil
			}}
		})
		Expect(c.Client.Blob(ctx, name, layer.Descriptor().Digest)).To(BeEquivalentTo(1000))
	}, SpecTimeout(2*time.Minute))

	DescribeTable("that fails for an internal reason is explained in the log", func(ctx context.Context, before int, message string) {
		log, logged := logrus.New(), gbytes.NewBuffer()
		log.SetOutput(logged)
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.Log = log
			o.Upstream = &scripted{fetch: func(_ context.Context, _ digest.Digest, from remote.Position) (*remote.Blob, error) {
				if from.Offset < int64(before) {
					return &remote.Blob{Size: 1000, Body: cut(layer.Data[:before])}, nil
				}
				return nil, errors.New("ouch")
			}}
		})
		_, err := c.Client.Blob(ctx, name, layer.Descriptor().Digest)
		Expect(err).To(HaveOccurred())
		Expect(err).NotTo(MatchError(ContainSubstring("ouch")))
		Eventually(logged).Should(gbytes.Say("msg=\"%s\".*error=ouch", message))
		Expect(logged.Contents()).To(ContainSubstring(layer.Descriptor().Digest.String()))
	},
		Entry("before its first byte", 0, "Failed to serve a request"),
		Entry("in the middle", 500, "Fetch of a blob broke off"),
	)
})
