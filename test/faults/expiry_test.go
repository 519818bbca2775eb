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

// The engine's own tests cover expiry in detail, on a fake clock. This is the only fault that waits for real lifetimes.
var _ = Describe("expiry", func() {
	inject(fault{name: "unused image expires, used one with a shared layer does not", stock: stockFails, check: expires})
})

// ttl exceeds the pauses of any machine.
const ttl = 4 * time.Second

// expires restarts the cache, cuts off its upstream, and uses one of two images for two lifetimes and until the other
// one has expired.
func expires(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{ttl: new(ttl)})
	shared := upstreamsim.NewLayer(7, mib)
	unused := upstreamsim.NewImage(shared, upstreamsim.NewLayer(1, mib))
	used := upstreamsim.NewImage(shared, upstreamsim.NewLayer(2, mib))
	for name, image := range map[string]upstreamsim.Image{"library/unused": unused, "library/used": used} {
		c.upstream.Push(name, tag, image)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		c.awaitStored(ctx, g, image)
	}
	full := c.stored(g)
	c.restart(ctx, g, c.server.Kill)
	c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
	begin := time.Now()
	g.Eventually(ctx, func(g Gomega) {
		if err := c.serve(ctx, "library/used", tag); err != nil {
			StopTrying("the used image expired").Wrap(err).Now()
		}
		_, err := os.Stat(c.blobFile(unused.Layers()[1]))
		g.Expect(err).To(MatchError(os.ErrNotExist))
		g.Expect(time.Since(begin)).To(BeNumerically(">", 2*ttl))
	}).WithTimeout(2*ttl + c.recovery()).WithPolling(ttl / 20).Should(Succeed())
	g.Expect(c.stored(g)).To(BeNumerically("<", full-mib/2))

	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Expect(c.pull(ctx, "library/unused", tag)).To(Succeed())
}
