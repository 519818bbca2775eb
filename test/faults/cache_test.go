// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	mib = 1 << 20

	name     = "library/app"
	tag      = "v1"
	username = "robot"
	password = "correct-horse"
)

// slow is a timeout beyond the duration of any check: the server must not mistake a busy machine for a slow upstream.
const slow = "1h"

// patient are the options of a server that never gives up on its upstream. Its other intervals are short, so that the
// suite need not wait for them.
var patient = cacheprocess.Options{
	"timeouts":    map[string]string{"connect": slow, "firstbyte": slow, "idle": slow},
	"graceperiod": "1s",
	"scrub":       map[string]any{"interval": "1s", "rate": 1 << 30},
}

// cache is a server and its upstream, under one fault.
type cache struct {
	implementation cacheprocess.Implementation
	upstream       *upstreamsim.Registry
	server         *cacheprocess.Server
	cleanups       []func()
}

func (c *cache) clean() {
	for _, cleanup := range slices.Backward(c.cleanups) {
		cleanup()
	}
}

// recovery limits the time in which a cache recovers from a fault. Stock does not recover from the faults that use this
// limit, so its limit is short.
func (c *cache) recovery() time.Duration {
	if c.implementation.Name == cacheprocess.Stock {
		return 5 * time.Second
	}
	return time.Minute
}

// temporaryDirectory creates a directory that is removed after the fault.
func (c *cache) temporaryDirectory(g Gomega) string {
	dir, err := os.MkdirTemp("", "larder-faults-")
	g.Expect(err).NotTo(HaveOccurred())
	c.cleanups = append(c.cleanups, func() { _ = os.RemoveAll(dir) })
	return dir
}

// setup describes the upstream and the server before the fault.
type setup struct {
	upstream upstreamsim.Options
	ttl      *time.Duration
	options  cacheprocess.Options
	change   func(*cacheprocess.Server)
}

// start starts an upstream and a server with an empty cache.
func (c *cache) start(ctx context.Context, g Gomega, s setup) {
	c.prepare(g, s)
	g.Expect(c.server.Start(ctx)).To(Succeed())
}

// prepare starts an upstream and prepares a server, which the fault starts.
func (c *cache) prepare(g Gomega, s setup) {
	if s.upstream.Authentication == "" {
		s.upstream.Authentication = upstreamsim.Bearer
	}
	s.upstream.Username, s.upstream.Password = username, password
	upstream, err := upstreamsim.Start(s.upstream)
	g.Expect(err).NotTo(HaveOccurred())
	c.upstream = upstream
	c.cleanups = append(c.cleanups, upstream.Close)
	c.server = c.newServer(g, c.implementation, s)
}

func (c *cache) newServer(g Gomega, implementation cacheprocess.Implementation, s setup) *cacheprocess.Server {
	options := cacheprocess.Options{}
	for _, given := range []cacheprocess.Options{patient, s.options} {
		for key, value := range given {
			options[key] = value
		}
	}
	server, err := cacheprocess.New(implementation, filepath.Join(c.temporaryDirectory(g), "cache"), cacheprocess.Config{
		RemoteURL: c.upstream.URL(), Username: username, Password: password, TTL: s.ttl, Options: options,
	})
	g.Expect(err).NotTo(HaveOccurred())
	if s.change != nil {
		s.change(server)
	}
	c.cleanups = append(c.cleanups, server.Kill)
	return server
}

// push adds a random image to the upstream.
func (c *cache) push(name, tag string, seed uint64, layers, layerSize int) upstreamsim.Image {
	image := upstreamsim.RandomImage(seed, layers, layerSize)
	c.upstream.Push(name, tag, image)
	return image
}

// pull pulls an image with a new client.
func (c *cache) pull(ctx context.Context, name, reference string) error {
	return c.use(func(client *pull.Client) error {
		_, err := client.Image(ctx, name, reference)
		return err
	})
}

// use calls a function with a new client.
func (c *cache) use(f func(*pull.Client) error) error {
	client := c.server.Client()
	defer client.Close()
	return f(client)
}

// heat pulls an image and waits until it is stored.
func (c *cache) heat(ctx context.Context, g Gomega, image upstreamsim.Image) {
	g.Expect(c.pull(ctx, name, image.Digest().String())).To(Succeed())
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	c.awaitStored(ctx, g, image)
}

// awaitStored waits until all blobs of an image are stored.
func (c *cache) awaitStored(ctx context.Context, g Gomega, image upstreamsim.Image) {
	for _, blob := range image.Blobs {
		g.Eventually(ctx, func() int64 {
			info, err := os.Stat(c.blobFile(blob))
			if err != nil {
				return -1
			}
			return info.Size()
		}).WithTimeout(c.recovery()).Should(BeNumerically("==", len(blob.Data)))
	}
}

// awaitSent waits until the upstream has sent a number of bytes.
func (c *cache) awaitSent(ctx context.Context, g Gomega, bytes int64) {
	g.Eventually(ctx, func() int64 { return c.upstream.Counters().Bytes }).WithTimeout(c.recovery()).Should(BeNumerically(">=", bytes))
}

// awaitRequests waits until the server has a number of concurrent requests of a kind.
func (c *cache) awaitRequests(ctx context.Context, g Gomega, handler string, requests int) {
	g.Eventually(ctx, func(g Gomega) {
		g.Expect(c.metric(ctx, g, `registry_http_in_flight_requests{handler="`+handler+`"}`)).To(BeNumerically("==", requests))
	}).WithTimeout(c.recovery()).Should(Succeed())
}

// layer pulls the first layer of an image.
func (c *cache) layer(ctx context.Context, image upstreamsim.Image) error {
	return c.use(func(client *pull.Client) error {
		_, err := client.Blob(ctx, name, image.Layers()[0].Descriptor().Digest)
		return err
	})
}

// withoutUpstream limits the time of requests that must not depend on the upstream: to less than the timeout of the
// upstream, and more than any machine needs.
func (c *cache) withoutUpstream(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, min(c.recovery(), 20*time.Second))
}

// serve pulls an image that the cache must serve without its upstream.
func (c *cache) serve(ctx context.Context, name, reference string) error {
	ctx, cancel := c.withoutUpstream(ctx)
	defer cancel()
	return c.pull(ctx, name, reference)
}

// restart ends the server in the given way and starts it again.
func (c *cache) restart(ctx context.Context, g Gomega, end func()) {
	end()
	g.Expect(c.server.Start(ctx)).To(Succeed())
}

// stored returns the size of all files in the data directory.
func (c *cache) stored(g Gomega) int64 {
	var total int64
	c.walk(g, func(_ string, info fs.FileInfo) { total += info.Size() })
	return total
}

// blobFile returns the file of a blob.
func (c *cache) blobFile(content upstreamsim.Content) string {
	hex := content.Descriptor().Digest.Encoded()
	return filepath.Join(c.blobsDirectory(), "sha256", hex[:2], hex, "data")
}

// transferred returns the bytes that the upstream has sent, as a multiple of the size of an image.
func (c *cache) transferred(image upstreamsim.Image) float64 {
	return float64(c.upstream.Counters().Bytes) / float64(image.Size())
}
