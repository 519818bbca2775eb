// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"os"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("expiry", func() {
	put(
		fault{name: "shared layer, the other image expires, upstream down", stock: stockFails, check: sharedLayer},
		fault{name: "steady pulls over 2 lifetimes", stock: stockFails, check: steadyPulls},
		fault{name: "unused content expires and gives its space back", stock: stockVaries, check: givesSpaceBack},
		fault{name: "content expires across a restart", stock: stockVaries, check: expiresAcrossRestart},
		fault{name: "lifetime switched on over a filled cache", stock: stockFails, check: switchedOn},
	)
})

func lifetime(d time.Duration) *time.Duration { return &d }

// ttl is longer than any machine pauses, and short enough to wait for.
const ttl = 4 * time.Second

// sharedLayer uses one image until another one, with which it shares a layer,
// has expired, and on.
func sharedLayer(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{ttl: lifetime(ttl)})
	shared := upstreamsim.NewLayer(7, mib)
	first := upstreamsim.NewImage(shared, upstreamsim.NewLayer(1, mib))
	second := upstreamsim.NewImage(shared, upstreamsim.NewLayer(2, mib))
	for name, image := range map[string]upstreamsim.Image{"library/first": first, "library/second": second} {
		c.upstream.Push(name, tag, image)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		c.awaitStored(ctx, g, image)
	}
	c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
	for after := 0; after < 10; {
		g.Expect(c.serve(ctx, "library/second", tag)).To(Succeed())
		time.Sleep(ttl / 20)
		if _, err := os.Stat(c.blobFile(first.Layers()[1])); err != nil {
			after++
		}
	}
}

func steadyPulls(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{ttl: lifetime(ttl)})
	image := c.push(name, tag, 1, 3, mib)
	for end := time.Now().Add(2*ttl + ttl/2); time.Now().Before(end); {
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		time.Sleep(ttl / 20)
	}
	g.Expect(c.transferred(image)).To(BeNumerically("==", 1))
}

func givesSpaceBack(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{ttl: lifetime(ttl)})
	image := c.push(name, tag, 1, 3, 4*mib)
	c.heat(ctx, g, image)
	c.expectExpired(ctx, g)
}

func expiresAcrossRestart(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{ttl: lifetime(ttl)})
	image := c.push(name, tag, 1, 3, 4*mib)
	c.heat(ctx, g, image)
	c.restart(ctx, g, c.server.Kill)
	c.expectExpired(ctx, g)
}

func switchedOn(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{ttl: lifetime(0)})
	image := c.push(name, tag, 1, 3, 4*mib)
	c.heat(ctx, g, image)
	c.server.Stop()
	c.server.Config.TTL = lifetime(ttl)
	g.Expect(c.server.Start(ctx)).To(Succeed())
	c.expectExpired(ctx, g)
}

// expectExpired waits until the content is gone, and can be had again.
func (c *cache) expectExpired(ctx context.Context, g Gomega) {
	g.Eventually(ctx, func() int64 { return c.stored(g) }).WithTimeout(ttl + c.recovery()).Should(BeNumerically("<", mib))
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}
