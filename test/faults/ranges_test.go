// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("ranges", func() {
	inject(
		fault{name: "beginning of a blob in transfer: before the rest", stock: stockFails, check: rangeBeforeTheRest},
		fault{name: "beginning of a blob larger than the disk: others not slowed down", stock: stockFails, check: rangeLargerThanDisk, skip: withoutMounts},
		fault{name: "consecutive, with pauses: one transfer", stock: stockFails, check: rangesWithPauses},
		fault{name: "middle, suffix, conditional, multiple, beyond the end: correct", stock: stockFails, check: rangesOfAllKinds},
		fault{name: "wrong digest of the blob: last byte never sent", stock: stockVaries, check: rangeOfWrongContent},
	)
})

// part is a range of a blob as received by a client.
type part struct {
	status int
	header http.Header
	body   []byte
}

// part requests a range of a blob. The error is that of an aborted body.
func (c *cache) part(ctx context.Context, g Gomega, blob upstreamsim.Content, header http.Header) (part, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.URL()+"/v2/"+name+"/blobs/"+blob.Descriptor().Digest.String(), nil)
	g.Expect(err).NotTo(HaveOccurred())
	request.Header = header
	client := c.server.Client()
	defer client.Close()
	response, err := client.HTTP.Do(request)
	if err != nil {
		return part{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return part{response.StatusCode, response.Header, body}, err
}

// expectPart expects the bytes of a blob from first up to end.
func (c *cache) expectPart(ctx context.Context, g Gomega, blob upstreamsim.Content, spec string, first, end int) {
	got, err := c.part(ctx, g, blob, http.Header{"Range": {"bytes=" + spec}})
	g.Expect(err).NotTo(HaveOccurred(), spec)
	g.Expect(got.status).To(Equal(http.StatusPartialContent), spec)
	g.Expect(got.header.Get("Content-Range")).To(Equal(fmt.Sprintf("bytes %d-%d/%d", first, end-1, len(blob.Data))))
	g.Expect(bytes.Equal(got.body, blob.Data[first:end])).To(BeTrue(), spec)
}

func rangeBeforeTheRest(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{upstream: upstreamsim.Options{BytesPerSecond: 4 * mib}})
	layer := c.push(name, tag, 1, 1, 16*mib).Layers()[0]
	c.expectPart(ctx, g, layer, "0-99", 0, 100)
	g.Expect(c.upstream.Counters().Bytes).To(BeNumerically("<", 12*mib), "the response waited for the rest")
	c.expectPart(ctx, g, layer, fmt.Sprintf("%d-%d", mib, 2*mib-1), mib, 2*mib)
	g.Expect(c.upstream.Counters().Bytes).To(BeNumerically("<", 16*mib), "the response waited for the rest")
}

func rangeLargerThanDisk(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{
		upstream: upstreamsim.Options{BytesPerSecond: 32 * mib},
		options:  cacheprocess.Options{"timeouts": map[string]string{"firstbyte": "10s", "idle": "10s"}},
		change:   c.onSmallDisk(g, "24m"),
	})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	image := c.push(name, tag, 1, 1, 64*mib)
	var clients errgroup.Group
	clients.Go(func() error { return c.layer(ctx, image) })
	within, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c.expectPart(within, g, image.Layers()[0], "0-99", 0, 100)
	g.Expect(clients.Wait()).To(Succeed())
	c.expectPart(ctx, g, image.Layers()[0], "0-99", 0, 100)
	c.expectPart(ctx, g, image.Layers()[0], "-100", 64*mib-100, 64*mib)
}

func rangesWithPauses(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{upstream: upstreamsim.Options{BytesPerSecond: 4 * mib}})
	layer := c.push(name, tag, 1, 1, 16*mib).Layers()[0]
	for _, begin := range []int{0, 5 * mib, 12 * mib} {
		// The pause exceeds the grace period of a transfer without readers.
		g.Eventually(ctx, func() int64 { return c.upstream.Counters().Bytes }).WithTimeout(15 * time.Second).
			Should(BeNumerically(">=", begin))
		c.expectPart(ctx, g, layer, fmt.Sprintf("%d-%d", begin, begin+99), begin, begin+100)
	}
	c.expectPart(ctx, g, layer, "-1", 16*mib-1, 16*mib)
	g.Expect(c.upstream.Counters().MostRequested()).To(Equal(1))
}

func rangesOfAllKinds(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	for i, state := range []string{"cold", "in transfer or warm"} {
		for seed, ask := range []func(upstreamsim.Content){
			func(layer upstreamsim.Content) { c.expectPart(ctx, g, layer, "1000000-1999999", 1_000_000, 2_000_000) },
			func(layer upstreamsim.Content) { c.expectPart(ctx, g, layer, "-100", 4*mib-100, 4*mib) },
			func(layer upstreamsim.Content) { c.expectPart(ctx, g, layer, "4194000-", 4_194_000, 4*mib) },
			func(layer upstreamsim.Content) { c.expectPart(ctx, g, layer, "4194000-9999999", 4_194_000, 4*mib) },
			func(layer upstreamsim.Content) {
				etag := `"` + layer.Descriptor().Digest.String() + `"`
				got, err := c.part(ctx, g, layer, http.Header{"Range": {"bytes=10-19"}, "If-Range": {etag}})
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(got.body).To(Equal(layer.Data[10:20]), state)
				got, err = c.part(ctx, g, layer, http.Header{"Range": {"bytes=10-19"}, "If-Range": {`"another"`}})
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(bytes.Equal(got.body, layer.Data)).To(BeTrue(), state)
			},
			func(layer upstreamsim.Content) {
				got, err := c.part(ctx, g, layer, http.Header{"Range": {"bytes=0-9,1000-1009"}})
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(got.status).To(Or(Equal(http.StatusPartialContent), Equal(http.StatusOK)), state)
				if got.status == http.StatusOK {
					g.Expect(bytes.Equal(got.body, layer.Data)).To(BeTrue(), state)
				} else {
					g.Expect(got.header.Get("Content-Type")).To(HavePrefix("multipart/byteranges"))
				}
			},
			func(layer upstreamsim.Content) {
				got, err := c.part(ctx, g, layer, http.Header{"Range": {"bytes=4194304-"}})
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(got.status).To(Equal(http.StatusRequestedRangeNotSatisfiable), state)
				g.Expect(got.header.Get("Content-Range")).To(Equal("bytes */4194304"))
			},
		} {
			image := upstreamsim.RandomImage(uint64(seed), 1, 4*mib)
			if i == 0 {
				c.upstream.Push(name, fmt.Sprintf("v%d", seed), image)
			}
			ask(image.Layers()[0])
		}
	}
}

func rangeOfWrongContent(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, 4*mib)
	layer := image.Layers()[0]
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, Corrupt: true})
	attempt, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	got, err := c.part(attempt, g, layer, http.Header{"Range": {"bytes=-100"}})
	g.Expect(attempt.Err()).NotTo(HaveOccurred(), "the client waits forever")
	g.Expect(err != nil || got.status >= http.StatusInternalServerError).To(BeTrue(), "its end was sent, status %d", got.status)
	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Eventually(ctx, func() error { return c.pull(ctx, name, tag) }).WithTimeout(10 * time.Second).Should(Succeed())
	g.Expect(c.use(func(client *pull.Client) error {
		_, err := client.Blob(ctx, name, layer.Descriptor().Digest)
		return err
	})).To(Succeed())
}
