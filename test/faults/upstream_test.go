// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("upstream", func() {
	inject(
		fault{name: "refuses connections, cache restarts: cached content served", stock: stockFails, check: refusesAcrossRestart},
		fault{name: "hangs: cached tag served, with authentication", stock: stockFails, check: hangs(upstreamsim.Bearer)},
		fault{name: "hangs: cached tag served, without authentication", stock: stockFails, check: hangs(upstreamsim.Anonymous)},
		fault{name: "hangs, cache restarts: cached content served", stock: stockFails, check: hangsAcrossRestart},
		fault{name: "responds 429: passed on, with Retry-After", stock: stockFails, check: tooManyRequests},
		fault{name: "responds 429: cached content served", stock: stockVaries, check: servesCachedThrough(http.StatusTooManyRequests)},
		fault{name: "responds 401: 502 with the cause", stock: stockFails, check: refusesCredential},
		fault{name: "responds 401: cached content served", stock: stockVaries, check: servesCachedThrough(http.StatusUnauthorized)},
		fault{name: "responds 503: server error", stock: stockFails, check: serverError},
		fault{name: "responds 503: cached content served", stock: stockVaries, check: servesCachedThrough(http.StatusServiceUnavailable)},
		fault{name: "moves a tag: new image served", stock: stockWithstands, check: movesTag},
		fault{name: "revokes its tokens: new ones requested", stock: stockWithstands, check: revokesTokens},
	)
})

func refusesAcrossRestart(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 2, mib)
	c.heat(ctx, g, image)

	c.server.Stop()
	c.upstream.Refuse()
	g.Expect(c.server.Start(ctx)).To(Succeed())
	g.Expect(c.serve(ctx, name, tag)).To(Succeed())
	g.Expect(c.serve(ctx, name, image.Digest().String())).To(Succeed())

	g.Expect(c.upstream.Accept()).To(Succeed())
	c.push(name, "v2", 2, 2, mib)
	g.Eventually(ctx, func() error { return c.pull(ctx, name, "v2") }).WithTimeout(c.recovery()).Should(Succeed())
}

func hangs(authentication upstreamsim.Authentication) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.start(ctx, g, setup{upstream: upstreamsim.Options{Authentication: authentication}})
		image := c.push(name, tag, 1, 2, mib)
		c.heat(ctx, g, image)
		c.upstream.Misbehave(upstreamsim.Faults{Hang: true})
		for range 3 {
			within, cancel := c.withoutUpstream(ctx)
			err := c.use(func(client *pull.Client) error {
				dgst, err := client.Head(within, name, tag)
				if err == nil && dgst != image.Digest() {
					err = errors.New("resolved to another digest")
				}
				return err
			})
			cancel()
			g.Expect(err).NotTo(HaveOccurred())
		}
		g.Expect(c.serve(ctx, name, tag)).To(Succeed())
	}
}

func hangsAcrossRestart(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 2, mib)
	c.heat(ctx, g, image)

	c.server.Stop()
	c.upstream.Misbehave(upstreamsim.Faults{Hang: true})
	startup, cancel := c.withoutUpstream(ctx)
	defer cancel()
	g.Expect(c.server.Start(startup)).To(Succeed())
	g.Expect(c.serve(ctx, name, tag)).To(Succeed())
}

// refused requests content that the cache does not have and returns the responses, which must be errors.
func (c *cache) refused(ctx context.Context, g Gomega, image upstreamsim.Image) []*pull.StatusError {
	var responses []*pull.StatusError
	expect := func(err error) {
		var status *pull.StatusError
		g.Expect(errors.As(err, &status)).To(BeTrue(), "got %v", err)
		responses = append(responses, status)
	}
	_ = c.use(func(client *pull.Client) error {
		_, err := client.Head(ctx, name, tag)
		expect(err)
		_, err = client.Manifest(ctx, name, tag)
		expect(err)
		_, err = client.Manifest(ctx, name, image.Digest().String())
		expect(err)
		_, err = client.Blob(ctx, name, image.Layers()[0].Descriptor().Digest)
		expect(err)
		return nil
	})
	return responses
}

func tooManyRequests(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	limit := func(retryAfter string) {
		c.upstream.Misbehave(upstreamsim.Faults{
			Only:    []upstreamsim.Kind{upstreamsim.ManifestGet, upstreamsim.ManifestHead, upstreamsim.BlobGet, upstreamsim.BlobHead},
			Status:  http.StatusTooManyRequests,
			Headers: map[string]string{"Retry-After": retryAfter},
		})
	}
	limit("3600")
	for _, response := range c.refused(ctx, g, image) {
		g.Expect(response.Status).To(Equal(http.StatusTooManyRequests), response.Body)
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(seconds).To(And(BeNumerically(">", 0), BeNumerically("<=", 3600)))
	}
	asked := c.upstream.Counters().Total()
	_ = c.refused(ctx, g, image)
	g.Expect(c.upstream.Counters().Total()-asked).To(BeZero(), "Retry-After is respected")

	limit("1")
	c.restart(ctx, g, c.server.Stop) // This drops the hour.
	_ = c.refused(ctx, g, image)
	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Eventually(ctx, func() error { return c.pull(ctx, name, tag) }).WithTimeout(c.recovery()).Should(Succeed())
}

func servesCachedThrough(status int) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.start(ctx, g, setup{})
		image := c.push(name, tag, 1, 2, mib)
		c.heat(ctx, g, image)

		c.upstream.Misbehave(upstreamsim.Faults{Status: status})
		for _, reference := range []string{tag, image.Digest().String()} {
			g.Expect(c.serve(ctx, name, reference)).To(Succeed())
		}
		c.restart(ctx, g, c.server.Stop)
		for _, reference := range []string{tag, image.Digest().String()} {
			g.Expect(c.serve(ctx, name, reference)).To(Succeed())
		}
	}
}

func refusesCredential(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	c.upstream.SetCredential(username, "another password")
	for i, response := range c.refused(ctx, g, image) {
		g.Expect(response.Status).To(Equal(http.StatusBadGateway), response.Body)
		g.Expect(response.Body).NotTo(ContainSubstring(password))
		if i > 0 { // the response to a HEAD has no body
			g.Expect(response.Body).To(MatchRegexp("(?i)credential|unauthori|authenticat|401"))
		}
	}
}

func serverError(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	c.upstream.Misbehave(upstreamsim.Faults{Status: http.StatusServiceUnavailable})
	for _, response := range c.refused(ctx, g, image) {
		g.Expect(response.Status).To(And(BeNumerically(">=", 502), BeNumerically("<=", 504)), response.Body)
	}
	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Eventually(ctx, func() error { return c.pull(ctx, name, tag) }).Should(Succeed())
}

func movesTag(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	c.heat(ctx, g, image)
	moved := c.push(name, tag, 2, 1, mib)
	g.Eventually(ctx, func(g Gomega) {
		g.Expect(c.use(func(client *pull.Client) error {
			dgst, err := client.Head(ctx, name, tag)
			g.Expect(dgst).To(Equal(moved.Digest()))
			return err
		})).To(Succeed())
	}).Should(Succeed())
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

func revokesTokens(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	for i, tag := range []string{"v1", "v2", "v3"} {
		c.push(name, tag, uint64(i), 1, mib)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		c.upstream.SetCredential(username, password)
	}
}
