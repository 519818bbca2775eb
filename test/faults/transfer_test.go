// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("transfer", func() {
	blobs := []upstreamsim.Kind{upstreamsim.BlobGet}
	inject(
		fault{name: "16 clients at once: one request for each object", stock: stockFails, check: herd},
		fault{name: "first of 5 clients hangs up: the others are served", stock: stockFails, check: starterHangsUp},
		fault{name: "only client hangs up: the transfer ends cleanly", stock: stockVaries, check: onlyClientHangsUp},
		fault{name: "8 fast clients beside a slow one: not slowed down", stock: stockFails, check: slowClient},
		fault{name: "upstream aborts the connection: resumed by range", stock: stockFails, check: cutConnection},
		fault{name: "upstream aborts the connection, no ranges: correct in the end", stock: stockVaries, check: cutWithoutRanges},
		fault{name: "upstream stops sending: resumed", stock: stockFails, check: stopsSending},
		fault{name: "wrong digest of a blob: never completed", stock: stockFails,
			check: wrongContent(upstreamsim.Faults{Only: blobs, Corrupt: true})},
		fault{name: "wrong digest of a manifest: never served", stock: stockVaries, check: wrongManifest},
		fault{name: "short blob: never completed", stock: stockFails,
			check: wrongContent(upstreamsim.Faults{Only: append([]upstreamsim.Kind{upstreamsim.BlobHead}, blobs...), Short: 1000})},
		fault{name: "Content-Length beyond the blob: never completed", stock: stockVaries,
			check: wrongContent(upstreamsim.Faults{Only: append([]upstreamsim.Kind{upstreamsim.BlobHead}, blobs...), Overlong: 1000})},
	)
})

func herd(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{upstream: upstreamsim.Options{Latency: 5 * time.Millisecond, BytesPerSecond: 32 * mib}})
	image := c.push(name, tag, 1, 3, 4*mib)
	var group errgroup.Group
	for range 16 {
		group.Go(func() error { return c.pull(ctx, name, tag) })
	}
	g.Expect(group.Wait()).To(Succeed())
	counters := c.upstream.Counters()
	g.Expect(counters.MostRequested()).To(Equal(1))
	g.Expect(c.transferred(image)).To(BeNumerically("==", 1))
	// One for the pulls, and one for the check of the credential at the start.
	g.Expect(counters.Total(upstreamsim.Token)).To(BeNumerically("<=", 2))
}

func starterHangsUp(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{options: cacheprocess.Options{"graceperiod": slow}})
	image := c.push(name, tag, 1, 1, layer16)
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, PauseAfter: layer16 / 4})
	fetch := func(ctx context.Context) error { return c.layer(ctx, image) }
	starterCtx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	starter := make(chan error, 1)
	go func() { starter <- fetch(starterCtx) }()
	c.awaitSent(ctx, g, layer16/4)

	var others errgroup.Group
	for range 4 {
		others.Go(func() error { return fetch(ctx) })
	}
	c.awaitRequests(ctx, g, "blob", 5)
	hangUp()
	g.Expect(<-starter).To(MatchError(context.Canceled))
	if c.implementation.Name == cacheprocess.Ours { // Stock notices it at its next write.
		c.awaitRequests(ctx, g, "blob", 4)
	}
	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Expect(others.Wait()).To(Succeed())
	g.Expect(c.upstream.Counters().Bytes).To(BeNumerically("==", layer16), "bytes fetched")

	c.upstream.Refuse()
	g.Expect(fetch(ctx)).To(Succeed(), "the blob is stored")
}

const layer16 = 16 * mib

func onlyClientHangsUp(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{upstream: upstreamsim.Options{BytesPerSecond: 4 * mib}})
	image := c.push(name, tag, 1, 1, layer16)
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, PauseAfter: layer16 / 8})
	impatient, hangUp := context.WithCancel(ctx)
	defer hangUp()
	client := make(chan error, 1)
	go func() { client <- c.layer(impatient, image) }()
	c.awaitSent(ctx, g, layer16/8)
	hangUp()
	g.Expect(<-client).To(MatchError(context.Canceled))
	c.upstream.Misbehave(upstreamsim.Faults{})

	// The transfer ends, whether it is complete or not.
	g.Eventually(ctx, func() int64 { return c.stored(g) }).WithTimeout(10*time.Second+c.recovery()).
		Should(Or(BeNumerically("<", mib), BeNumerically(">", layer16)), "no partial content is left")
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

func slowClient(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{upstream: upstreamsim.Options{BytesPerSecond: 32 * mib}})
	image := c.push(name, tag, 1, 2, 16*mib)
	slowCtx, stop := context.WithCancel(ctx)
	begun, ended := make(chan struct{}), make(chan struct{})
	defer func() { stop(); <-ended }()
	go func() {
		defer close(ended)
		_ = c.use(func(client *pull.Client) error {
			client.BytesPerSecond = 1 // It makes no progress.
			client.FirstByte = sync.OnceFunc(func() { close(begun) })
			_, err := client.Image(slowCtx, name, tag)
			return err
		})
	}()
	g.Eventually(ctx, begun).Should(BeClosed())

	var fast errgroup.Group
	for range 8 {
		fast.Go(func() error { return c.pull(ctx, name, tag) })
	}
	g.Expect(fast.Wait()).To(Succeed())
	g.Expect(ended).NotTo(BeClosed())
	g.Expect(c.transferred(image)).To(BeNumerically("==", 1))
}

func cutConnection(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, 16*mib)
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, CutAfter: 5 * mib, Times: 2})
	g.Expect(c.layer(ctx, image)).To(Succeed())
	g.Expect(c.transferred(image)).To(BeNumerically("<", 1.3))
}

func cutWithoutRanges(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, 16*mib)
	c.upstream.Misbehave(upstreamsim.Faults{
		Only: []upstreamsim.Kind{upstreamsim.BlobGet}, CutAfter: 15 * mib, NoRange: true, Times: 1,
	})
	g.Eventually(ctx, func() error {
		err := c.layer(ctx, image)
		g.Expect(errors.Is(err, pull.ErrWrongContent)).To(BeFalse())
		return err
	}).Should(Succeed())
}

func stopsSending(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{options: cacheprocess.Options{"timeouts": map[string]string{"idle": "1s"}}})
	image := c.push(name, tag, 1, 1, 16*mib)
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, HangAfter: 5 * mib, Times: 1})
	within, cancel := context.WithTimeout(ctx, c.recovery())
	defer cancel()
	g.Expect(c.layer(within, image)).To(Succeed())
}

// wrongContent makes the upstream send wrong content.
func wrongContent(faults upstreamsim.Faults) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.start(ctx, g, setup{})
		image := c.push(name, tag, 1, 1, 4*mib)
		g.Expect(c.use(func(client *pull.Client) error { // so that the cache knows the sizes of the blobs
			_, err := client.Manifest(ctx, name, tag)
			return err
		})).To(Succeed())

		c.upstream.Misbehave(faults)
		for range 2 {
			attempt, cancel := context.WithTimeout(ctx, c.recovery())
			err := c.layer(attempt, image)
			g.Expect(attempt.Err()).NotTo(HaveOccurred(), "the client waits forever")
			cancel()
			g.Expect(err).To(HaveOccurred())
			g.Expect(errors.Is(err, pull.ErrWrongContent)).To(BeFalse(), "wrong content was completed")
		}
		c.upstream.Misbehave(upstreamsim.Faults{})
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		c.upstream.Refuse()
		g.Expect(c.serve(ctx, name, image.Digest().String())).To(Succeed())
	}
}

func wrongManifest(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.ManifestGet}, Corrupt: true})
	for _, reference := range []string{image.Digest().String(), tag} {
		err := c.use(func(client *pull.Client) error {
			_, err := client.Manifest(ctx, name, reference)
			return err
		})
		g.Expect(pull.StatusOf(err)).To(BeNumerically(">=", 400), "%s: %v", reference, err)
	}
	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}
