// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("crash", func() {
	inject(
		fault{name: "SIGKILL during a transfer: correct afterwards, orphans gone", stock: stockFails, check: killed},
		fault{name: "SIGKILL 8 times at random moments: correct, orphans gone", stock: stockFails, check: killedAgainAndAgain},
		fault{name: "everything except the content lost: served, expires", stock: stockVaries, check: onlyContentLeft},
		fault{name: "everything except the content corrupt: starts, serves", stock: stockVaries, check: spoiledState},
		fault{name: "manifest truncated on disk: fetched again", stock: stockVaries, check: truncatedManifest},
	)
})

func killed(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 2, 8*mib)
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, PauseAfter: 4 * mib})
	interrupted := make(chan error, 1)
	go func() { interrupted <- c.pull(ctx, name, tag) }()
	g.Eventually(ctx, func() int64 { return c.stored(g) }).WithTimeout(c.recovery()).Should(BeNumerically(">", 6*mib))
	c.server.Kill()
	g.Expect(<-interrupted).To(HaveOccurred())
	c.upstream.Misbehave(upstreamsim.Faults{})

	g.Expect(c.server.Start(ctx)).To(Succeed())
	c.expectNoOrphans(ctx, g)
	c.heat(ctx, g, image)
	c.upstream.Refuse()
	g.Expect(c.serve(ctx, name, tag)).To(Succeed())
}

func killedAgainAndAgain(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{upstream: upstreamsim.Options{BytesPerSecond: 64 * mib}})
	tags := []string{"v1", "v2", "v3"}
	images := map[string]upstreamsim.Image{}
	for i, tag := range tags {
		images[tag] = c.push(name, tag, uint64(i), 4, 4*mib)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		c.upstream.ResetCounters()
		var clients sync.WaitGroup
		for _, tag := range tags {
			clients.Go(func() { _ = c.pull(ctx, name, tag) })
		}
		ended := make(chan struct{})
		go func() { clients.Wait(); close(ended) }()
		moment := random.Int64N(24 * mib)
		g.Eventually(ctx, func() bool {
			select {
			case <-ended:
				return true
			default:
				return c.upstream.Counters().Bytes >= moment
			}
		}).WithPolling(time.Millisecond).WithTimeout(c.recovery()).Should(BeTrue())
		c.server.Kill()
		<-ended
		g.Expect(c.server.Start(ctx)).To(Succeed())
	}
	c.expectNoOrphans(ctx, g)
	for _, tag := range tags {
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		c.awaitStored(ctx, g, images[tag])
	}
	c.upstream.Refuse()
	for _, tag := range tags {
		g.Expect(c.serve(ctx, name, tag)).To(Succeed())
		g.Expect(c.serve(ctx, name, images[tag].Digest().String())).To(Succeed())
	}
}

// expectNoOrphans waits until the data directory has no large files other than blobs.
func (c *cache) expectNoOrphans(ctx context.Context, g Gomega) {
	g.Eventually(ctx, func() int64 { return c.uploads(g) }).WithTimeout(c.recovery()).Should(BeZero(), "size of the orphans")
}

// uploads returns the size of all large files other than blobs.
func (c *cache) uploads(g Gomega) int64 {
	const large = 256 << 10 // a cache's own state about a few images is smaller
	var total int64
	c.walk(g, func(path string, info fs.FileInfo) {
		if !strings.HasPrefix(path, c.blobsDirectory()) && info.Size() > large {
			total += info.Size()
		}
	})
	return total
}

// ownFiles returns the files outside of Distribution's layout.
func (c *cache) ownFiles(g Gomega) []string {
	var paths []string
	c.walk(g, func(path string, _ fs.FileInfo) {
		if !strings.HasPrefix(path, filepath.Join(c.server.DataDirectory(), "docker")) {
			paths = append(paths, path)
		}
	})
	return paths
}

// onlyContentLeft removes the cache's state.
func onlyContentLeft(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 2, 4*mib)
	c.heat(ctx, g, image)
	restartWithout := func(ttl time.Duration) {
		c.server.Stop()
		for _, path := range c.ownFiles(g) {
			g.Expect(os.Remove(path)).To(Succeed())
		}
		c.server.Config.TTL = new(ttl)
		g.Expect(c.server.Start(ctx)).To(Succeed())
	}
	c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
	restartWithout(time.Hour)
	g.Expect(c.serve(ctx, name, tag)).To(Succeed())
	restartWithout(time.Second)
	g.Eventually(ctx, func() int64 { return c.stored(g) }).WithTimeout(c.recovery()).Should(BeNumerically("<", mib))
}

// spoiledState overwrites the cache's state.
func spoiledState(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 2, 4*mib)
	c.heat(ctx, g, image)
	for _, spoil := range []func(string, int64) error{
		func(path string, size int64) error { return os.Truncate(path, size/2) },
		func(path string, _ int64) error { return os.WriteFile(path, []byte("spoiled"), 0o600) },
		func(path string, size int64) error { return os.WriteFile(path, make([]byte, size), 0o600) },
	} {
		c.server.Kill()
		for _, path := range c.ownFiles(g) {
			info, err := os.Stat(path)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(spoil(path, info.Size())).To(Succeed())
		}
		g.Expect(c.server.Start(ctx)).To(Succeed())
		c.upstream.ResetCounters()
		g.Expect(c.serve(ctx, name, tag)).To(Succeed())
		g.Expect(c.upstream.Counters().Objects).To(BeEmpty())
	}
}

func truncatedManifest(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	c.heat(ctx, g, image)
	for _, size := range []int64{0, 100} {
		c.server.Stop()
		g.Expect(os.Truncate(c.blobFile(image.Manifest), size)).To(Succeed())
		g.Expect(c.server.Start(ctx)).To(Succeed())
		g.Eventually(ctx, func() error { return c.pull(ctx, name, tag) }).WithTimeout(c.recovery()).Should(Succeed())
		g.Eventually(ctx, func() error { return c.pull(ctx, name, image.Digest().String()) }).WithTimeout(c.recovery()).Should(Succeed())
	}
}

func (c *cache) blobsDirectory() string {
	return filepath.Join(c.server.DataDirectory(), "docker/registry/v2/blobs")
}

// walk calls visit for all files of the data directory, which may change meanwhile.
func (c *cache) walk(g Gomega, visit func(path string, info fs.FileInfo)) {
	err := filepath.WalkDir(c.server.DataDirectory(), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		if info, err := entry.Info(); err == nil {
			visit(path, info)
		}
		return nil
	})
	g.Expect(err).NotTo(HaveOccurred())
}
