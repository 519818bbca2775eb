// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("expiry", func() {
	put(
		fault{name: "shared layer, the other image expires, upstream down", stock: stockFails, check: sharedLayer},
		fault{name: "steady pulls over 4 lifetimes", stock: stockFails, check: steadyPulls},
		fault{name: "unused content expires and gives its space back", stock: stockVaries, check: givesSpaceBack},
		fault{name: "content expires across a restart", stock: stockVaries, check: expiresAcrossRestart},
		fault{name: "lifetime switched on over a filled cache", stock: stockFails, check: switchedOn},
	)
})

func lifetime(d time.Duration) *time.Duration { return &d }

func sharedLayer(ctx context.Context, g Gomega, c *cache) {
	const ttl = 4 * time.Second
	c.start(ctx, g, setup{ttl: lifetime(ttl)})
	shared := upstreamsim.NewLayer(7, mib)
	c.upstream.Push("library/first", tag, upstreamsim.NewImage(shared, upstreamsim.NewLayer(1, mib)))
	c.upstream.Push("library/second", tag, upstreamsim.NewImage(shared, upstreamsim.NewLayer(2, mib)))

	g.Expect(c.pull(ctx, "library/first", tag)).To(Succeed())
	firstExpires := time.Now().Add(ttl)
	time.Sleep(ttl * 3 / 4)
	g.Expect(c.pull(ctx, "library/second", tag)).To(Succeed())
	secondExpires := time.Now().Add(ttl)

	c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
	time.Sleep(time.Until(firstExpires.Add(ttl / 8)))
	for time.Until(secondExpires) > ttl/4 {
		g.Expect(c.pullWithin(ctx, 3*time.Second, "library/second", tag)).To(Succeed())
		time.Sleep(ttl / 8)
	}
}

func steadyPulls(ctx context.Context, g Gomega, c *cache) {
	const ttl = 2 * time.Second
	c.start(ctx, g, setup{ttl: lifetime(ttl)})
	image := c.push(name, tag, 1, 3, mib)
	for end := time.Now().Add(4*ttl + ttl/2); time.Now().Before(end); {
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		time.Sleep(ttl / 20)
	}
	g.Expect(c.transferred(image)).To(BeNumerically("==", 1))
}

func givesSpaceBack(ctx context.Context, g Gomega, c *cache) {
	const ttl = 2 * time.Second
	c.start(ctx, g, setup{ttl: lifetime(ttl)})
	image := c.push(name, tag, 1, 3, 4*mib)
	c.heat(ctx, g, image)
	g.Expect(c.stored(g)).To(BeNumerically(">", 12*mib))
	g.Eventually(ctx, func() int64 { return c.stored(g) }).WithTimeout(6 * ttl).Should(BeNumerically("<", mib))
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

func expiresAcrossRestart(ctx context.Context, g Gomega, c *cache) {
	const ttl = 4 * time.Second
	c.start(ctx, g, setup{ttl: lifetime(ttl)})
	image := c.push(name, tag, 1, 3, 4*mib)
	c.heat(ctx, g, image)
	time.Sleep(ttl / 4)
	c.restart(ctx, g, c.server.Kill)
	g.Eventually(ctx, func() int64 { return c.stored(g) }).WithTimeout(c.recovery()).Should(BeNumerically("<", mib))
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

func switchedOn(ctx context.Context, g Gomega, c *cache) {
	const ttl = 2 * time.Second
	c.start(ctx, g, setup{ttl: lifetime(0)})
	image := c.push(name, tag, 1, 3, 4*mib)
	c.heat(ctx, g, image)
	time.Sleep(ttl)
	c.server.Stop()
	c.server.Config.TTL = lifetime(ttl)
	g.Expect(c.server.Start(ctx)).To(Succeed())

	g.Eventually(ctx, func() int64 { return c.stored(g) }).WithTimeout(c.recovery()).Should(BeNumerically("<", mib))
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}
