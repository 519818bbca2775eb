// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("disk", func() {
	inject(
		fault{name: "blob larger than the disk: streamed, cached content served", stock: stockFails, check: largerThanDisk, skip: withoutMounts},
		fault{name: "blob larger than the disk, 3 clients and a slow one: streamed", stock: stockFails, check: manyOnLargerThanDisk, skip: withoutMounts},
		fault{name: "filled by other files: streamed", stock: stockFails, check: filledByOthers, skip: withoutMounts},
		fault{name: "full of other files at start: cached served, others streamed", stock: stockVaries, check: fullAtStart(byOthers, false), skip: withoutMounts},
		fault{name: "full of other files at start, state lost: served, streamed", stock: stockVaries, check: fullAtStart(byOthers, true), skip: withoutMounts},
		fault{name: "full of uploads at start: cached served, others stored", stock: stockVaries, check: fullAtStart(byUpload, false), skip: withoutMounts},
		fault{name: "full of uploads at start, state lost: served, stored", stock: stockVaries, check: fullAtStart(byUpload, true), skip: withoutMounts},
		fault{name: "full of content at start, state lost: served, stored", stock: stockVaries, check: fullAtStart(byContent, true), skip: withoutMounts},
		fault{name: "many images on a small disk: old ones evicted", stock: stockFails, check: makesRoom, skip: withoutMounts},
		fault{name: "bit flipped while running: detected, fetched again", stock: stockFails, check: damaged(flipBit, false)},
		fault{name: "bit flipped while stopped: detected, fetched again", stock: stockFails, check: damaged(flipBit, true)},
		fault{name: "blob truncated while running: detected, fetched again", stock: stockFails, check: damaged(truncate, false)},
		fault{name: "blob truncated while stopped: detected, fetched again", stock: stockFails, check: damaged(truncate, true)},
		fault{name: "content stored by stock: served from the cache", stock: stockVaries, check: takeover},
	)
})

// withoutMounts returns why the machine cannot mount a small file system. In many containers, not even root can.
func withoutMounts() string {
	dir, err := os.MkdirTemp("", "larder-faults-")
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = os.Remove(dir) }()
	if err := syscall.Mount("larder", dir, "tmpfs", 0, "size=1m"); err != nil {
		return "cannot mount a small file system: " + err.Error()
	}
	Expect(syscall.Unmount(dir, syscall.MNT_DETACH)).To(Succeed())
	return ""
}

// onSmallDisk moves the server's data to a file system of the given size.
func (c *cache) onSmallDisk(g Gomega, size string) func(*cacheprocess.Server) {
	return func(server *cacheprocess.Server) {
		dir := server.DataDirectory()
		g.Expect(syscall.Mount("larder", dir, "tmpfs", 0, "size="+size)).To(Succeed())
		c.cleanups = append(c.cleanups, func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
}

func largerThanDisk(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{change: c.onSmallDisk(g, "24m")})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	image := c.push(name, tag, 1, 1, 4*mib)
	c.push(name, "large", 2, 1, 40*mib)
	c.heat(ctx, g, image)
	for range 2 {
		g.Expect(c.pull(ctx, name, "large")).To(Succeed())
	}
	c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
	g.Expect(c.serve(ctx, name, tag)).To(Succeed())
}

func manyOnLargerThanDisk(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{
		upstream: upstreamsim.Options{BytesPerSecond: 64 * mib},
		change:   c.onSmallDisk(g, "24m"),
	})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	image := c.push(name, tag, 1, 1, 64*mib)
	var clients errgroup.Group
	for i := range 4 {
		clients.Go(func() error {
			return c.use(func(client *pull.Client) error {
				if i == 0 {
					client.BytesPerSecond = 16 * mib
				}
				_, err := client.Blob(ctx, name, image.Layers()[0].Descriptor().Digest)
				return err
			})
		})
		c.awaitSent(ctx, g, int64(i+1)*8*mib)
	}
	g.Expect(clients.Wait()).To(Succeed())
}

func filledByOthers(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{change: c.onSmallDisk(g, "24m")})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	image := c.push(name, tag, 1, 1, 2*mib)
	c.heat(ctx, g, image)
	ballast := filepath.Join(c.server.DataDirectory(), "ballast")
	fill(g, ballast)

	c.push(name, "v2", 2, 2, 4*mib)
	for range 2 {
		g.Expect(c.pull(ctx, name, "v2")).To(Succeed())
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	}
	g.Expect(os.Remove(ballast)).To(Succeed())
	c.push(name, "v3", 3, 2, 4*mib)
	c.expectStored(ctx, g, "v3")
}

// The files that fill a disk, as paths in the data directory.
const (
	byOthers  = "ballast"
	byUpload  = "docker/registry/v2/repositories/" + name + "/_uploads/cfdd2d3c-6d2b-4b4e-9f3b-0a3c2f1b7d55/data"
	byContent = "docker/registry/v2/blobs/sha256/00/00000000000000000000000000000000000000000000000000000000000000ff/data"
)

// fullAtStart starts the server on a full disk, optionally without its state.
func fullAtStart(filler string, stateLost bool) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.prepare(g, setup{change: c.onSmallDisk(g, "24m")})
		g.Expect(c.server.Start(ctx)).To(Succeed())
		c.push(name, "oldest", 1, 1, mib) // may be evicted
		g.Expect(c.pull(ctx, name, "oldest")).To(Succeed())
		c.heat(ctx, g, c.push(name, tag, 2, 1, 4*mib))
		c.server.Stop()
		if stateLost {
			for _, path := range c.ownFiles(g) {
				g.Expect(os.Remove(path)).To(Succeed())
			}
		}
		path := filepath.Join(c.server.DataDirectory(), filler)
		g.Expect(os.MkdirAll(filepath.Dir(path), 0o750)).To(Succeed())
		fill(g, path)
		yesterday := time.Now().Add(-24 * time.Hour)
		g.Expect(os.Chtimes(path, yesterday, yesterday)).To(Succeed())

		g.Expect(c.server.Start(ctx)).To(Succeed())
		c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
		g.Expect(c.serve(ctx, name, tag)).To(Succeed())
		c.upstream.Misbehave(upstreamsim.Faults{})
		c.push(name, "new", 3, 1, 4*mib)
		g.Expect(c.pull(ctx, name, "new")).To(Succeed())
		if filler != byOthers {
			c.expectStored(ctx, g, "new")
		}
	}
}

// expectStored pulls an image until it is served without the upstream.
func (c *cache) expectStored(ctx context.Context, g Gomega, reference string) {
	g.Eventually(ctx, func() error {
		if err := c.pull(ctx, name, reference); err != nil {
			return err
		}
		c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
		defer c.upstream.Misbehave(upstreamsim.Faults{})
		return c.serve(ctx, name, reference)
	}).WithTimeout(c.recovery()).Should(Succeed(), "stored as soon as there is space")
}

// fill writes until the disk is full.
func fill(g Gomega, path string) {
	file, err := os.Create(path)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = file.Close() }()
	for _, size := range []int{mib, 4096} {
		for block := make([]byte, size); err == nil; {
			_, err = file.Write(block)
		}
		g.Expect(err).To(MatchError(syscall.ENOSPC))
		err = nil
	}
}

func makesRoom(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{change: c.onSmallDisk(g, "32m")})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	tags := []string{"v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"}
	for i, tag := range tags {
		c.push(name, tag, uint64(i), 2, 4*mib)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed(), tag)
	}
	// The newest image is stored, the oldest is not.
	newest := tags[len(tags)-1]
	g.Eventually(ctx, func() error {
		if err := c.pull(ctx, name, newest); err != nil {
			return err
		}
		c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
		defer c.upstream.Misbehave(upstreamsim.Faults{})
		return c.serve(ctx, name, newest)
	}).WithTimeout(c.recovery()).Should(Succeed())
	c.upstream.Misbehave(upstreamsim.Faults{Status: 503})
	g.Expect(c.serve(ctx, name, tags[0])).NotTo(Succeed())
}

func flipBit(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	block := make([]byte, 1)
	if _, err := file.ReadAt(block, mib); err != nil {
		return err
	}
	block[0] ^= 4
	_, err = file.WriteAt(block, mib)
	return err
}

func truncate(path string) error { return os.Truncate(path, mib) }

// damaged damages a stored blob and restores its modification time. Its change time still differs, because a test
// cannot set it; the engine's own tests cover damage without any trace.
func damaged(damage func(path string) error, stopped bool) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.start(ctx, g, setup{})
		image := c.push(name, tag, 1, 1, 4*mib)
		c.heat(ctx, g, image)
		c.server.Stop() // It may be about to read the blob that it has just stored.
		if !stopped {
			g.Expect(c.server.Start(ctx)).To(Succeed())
		}
		path := c.blobFile(image.Layers()[0])
		c.awaitTick(ctx, g, path)
		info, err := os.Stat(path)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(damage(path)).To(Succeed())
		g.Expect(os.Chtimes(path, info.ModTime(), info.ModTime())).To(Succeed())
		if stopped {
			g.Expect(c.server.Start(ctx)).To(Succeed())
		}
		g.Eventually(ctx, func() error { return c.layer(ctx, image) }).WithTimeout(c.recovery()).WithPolling(500 * time.Millisecond).Should(Succeed())
	}
}

// awaitTick waits until the clock of the file system has advanced since a file was stored. Earlier changes leave the
// change time as it is.
func (c *cache) awaitTick(ctx context.Context, g Gomega, path string) {
	changed := func(path string) int64 {
		info, err := os.Stat(path)
		g.Expect(err).NotTo(HaveOccurred())
		return info.Sys().(*syscall.Stat_t).Ctim.Nano()
	}
	stored, probe := changed(path), filepath.Join(c.temporaryDirectory(g), "probe")
	g.Eventually(ctx, func() int64 {
		g.Expect(os.WriteFile(probe, nil, 0o600)).To(Succeed())
		return changed(probe)
	}).Should(BeNumerically(">", stored))
}

// takeover starts the server with the data directory of stock Distribution.
func takeover(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{})
	image := c.push(name, tag, 1, 3, 4*mib)
	stock, err := cacheprocess.Build(ctx, cacheprocess.Stock)
	g.Expect(err).NotTo(HaveOccurred())
	server := c.server
	c.server = c.newServer(g, stock, setup{})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	c.heat(ctx, g, image)
	c.server.Stop()

	server.SetDataDirectory(c.server.DataDirectory())
	c.server = server
	g.Expect(c.server.Start(ctx)).To(Succeed())
	c.upstream.ResetCounters()
	g.Expect(c.serve(ctx, name, tag)).To(Succeed())
	g.Expect(c.serve(ctx, name, image.Digest().String())).To(Succeed())
	g.Expect(c.upstream.Counters().Objects).To(BeEmpty())
	if c.implementation.Name == cacheprocess.Ours {
		c.upstream.Refuse()
		c.restart(ctx, g, c.server.Kill)
		g.Expect(c.serve(ctx, name, tag)).To(Succeed())
	}
}
