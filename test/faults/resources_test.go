// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("resources", func() {
	inject(
		fault{name: "100 clients give up on a hanging upstream: nothing leaks", stock: stockVaries, check: clientsGiveUp},
		fault{name: "200 images at once: memory is independent of their sizes", stock: stockVaries, check: manyImages, memory: true, skip: withoutPeakRSS},
		fault{name: "manifest of 32 MiB: rejected, not held in memory", stock: stockVaries, check: hugeManifest, memory: true, skip: withoutPeakRSS},
	)
})

// metric returns the value of a metric of the server.
func (c *cache) metric(ctx context.Context, g Gomega, metric string) float64 {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.MetricsURL(), nil)
	g.Expect(err).NotTo(HaveOccurred())
	response, err := http.DefaultClient.Do(request)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), metric+" "); ok {
			number, err := strconv.ParseFloat(value, 64)
			g.Expect(err).NotTo(HaveOccurred())
			return number
		}
	}
	g.Expect(metric).To(BeEmpty(), "the server has no such metric")
	return 0
}

func clientsGiveUp(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 2, mib)
	c.heat(ctx, g, image)
	c.push(name, "v2", 2, 2, mib)
	goroutines := c.metric(ctx, g, "go_goroutines")
	files := c.metric(ctx, g, "process_open_fds")

	c.upstream.Misbehave(upstreamsim.Faults{Hang: true})
	impatient, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var clients errgroup.Group
	for range 100 {
		clients.Go(func() error { _ = c.pull(impatient, name, "v2"); return nil })
	}
	c.awaitRequests(ctx, g, "manifest", 100)
	giveUp()
	_ = clients.Wait()
	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Eventually(ctx, func(g Gomega) {
		g.Expect(c.metric(ctx, g, "go_goroutines")).To(BeNumerically("<", goroutines+20))
		g.Expect(c.metric(ctx, g, "process_open_fds")).To(BeNumerically("<", files+20))
	}).WithTimeout(c.recovery()).WithPolling(100 * time.Millisecond).Should(Succeed())
	g.Eventually(ctx, func() error { return c.pull(ctx, name, "v2") }).WithTimeout(c.recovery()).Should(Succeed())
}

// manyImages compares the memory for small and large images in one process. Both include the memory of clients and
// connections, and that which depends on the machine.
func manyImages(ctx context.Context, g Gomega, c *cache) {
	const (
		images       = 200
		small, large = 16 << 10, mib
	)
	c.start(ctx, g, setup{})
	pullAll := func(size int) {
		var clients errgroup.Group
		for i := range images {
			c.push(name, fmt.Sprintf("v%d-%d", i, size), uint64(i), 1, size)
		}
		for range 2 { // The second pass is served from the cache.
			for i := range images {
				clients.Go(func() error { return c.pull(ctx, name, fmt.Sprintf("v%d-%d", i, size)) })
			}
			g.Expect(clients.Wait()).To(Succeed())
		}
	}
	pullAll(small)
	before := c.peakRSS(g)
	pullAll(large)
	g.Expect(c.peakRSS(g)-before).To(BeNumerically("<", images*large/4), "a quarter of the size of the images")
}

// withoutPeakRSS returns why the machine cannot measure memory.
func withoutPeakRSS() string {
	if _, err := cacheprocess.ProcessPeakRSS(os.Getpid()); err != nil {
		return "cannot measure the memory of a process: " + err.Error()
	}
	return ""
}

func (c *cache) peakRSS(g Gomega) int64 {
	peak, err := c.server.PeakRSS()
	g.Expect(err).NotTo(HaveOccurred())
	return peak
}

func hugeManifest(ctx context.Context, g Gomega, c *cache) {
	const size = 32 * mib
	c.start(ctx, g, setup{})
	huge := upstreamsim.Content{
		MediaType: "application/vnd.oci.image.manifest.v1+json",
		Data:      []byte(`{"schemaVersion":2,"annotations":{"a":"` + strings.Repeat("a", size) + `"}}`),
	}
	c.upstream.PushManifest(name, "huge", huge)
	image := c.push(name, tag, 1, 1, mib)
	c.heat(ctx, g, image)
	before := c.peakRSS(g)
	for _, reference := range []string{"huge", huge.Descriptor().Digest.String()} {
		err := c.use(func(client *pull.Client) error {
			_, err := client.Manifest(ctx, name, reference)
			return err
		})
		g.Expect(pull.StatusOf(err)).To(BeNumerically(">=", 400), "%v", err)
	}
	g.Expect(c.peakRSS(g)-before).To(BeNumerically("<", size), "less than one manifest")
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}
