// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("clients", func() {
	inject(
		fault{name: "500 request a tag and hang up: few upstream requests", stock: stockVaries, check: hangUpOnTags},
		fault{name: "300 request a blob and hang up: few upstream requests", stock: stockVaries, check: hangUpOnBlobs},
		fault{name: "30 request all tags and hang up: one list for all", stock: stockVaries, check: hangUpOnLists},
		fault{name: "one reads at 64 KiB/s, disk full: others not slowed down", stock: stockFails, check: slowOnLargerThanDisk, skip: withoutMounts},
		fault{name: "write: rejected before the body", stock: stockFails, check: writes},
		fault{name: "send forms: responses before the body", stock: stockFails, check: forms},
	)
})

var _ = Describe("lists", func() {
	inject(
		fault{name: "tags after one that the upstream has deleted: listed", stock: stockFails, check: tagsAfterOneThatIsGone},
		fault{name: "tags in an outage: all of them, or an error", stock: stockFails, check: tagsInOutage},
	)
})

var _ = Describe("manifests", func() {
	inject(
		fault{name: "many of a million descriptors: rejected, below 96 MiB of memory", stock: stockVaries, check: manifestBombs, memory: true},
		fault{name: "tag moves, upstream takes 1.2 s per response: new image served", stock: stockWithstands, check: movesSlowly},
	)
})

// hangUp sends requests on separate connections and closes them when all have been sent.
func (c *cache) hangUp(g Gomega, paths []string) {
	closeAll(g, c.send(g, paths))
}

// send sends requests on separate connections.
func (c *cache) send(g Gomega, paths []string) []net.Conn {
	connections := make([]net.Conn, 0, len(paths))
	for _, path := range paths {
		connection, err := net.Dial("tcp", strings.TrimPrefix(c.server.URL(), "http://"))
		g.Expect(err).NotTo(HaveOccurred())
		connections = append(connections, connection)
		_, err = io.WriteString(connection, path+" HTTP/1.1\r\nHost: cache\r\n\r\n")
		g.Expect(err).NotTo(HaveOccurred())
	}
	return connections
}

// closeAll closes the connections of the latest requests first. They wait longest, and a slot that is freed would
// otherwise pass to one of them just before its client leaves.
func closeAll(g Gomega, connections []net.Conn) {
	for _, connection := range slices.Backward(connections) {
		g.Expect(connection.Close()).To(Succeed())
	}
}

// settled returns the number of requests to the upstream once it no longer grows.
func (c *cache) settled(ctx context.Context, g Gomega, kinds ...upstreamsim.Kind) int {
	before := -1
	g.Eventually(ctx, func() bool {
		now := c.upstream.Counters().Total(kinds...)
		stands := now == before
		before = now
		return stands
	}).WithPolling(2 * time.Second).WithTimeout(40 * time.Second).Should(BeTrue())
	return before
}

func hangUpOnTags(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{upstream: upstreamsim.Options{Authentication: upstreamsim.Anonymous}})
	image := c.push(name, tag, 1, 1, mib)
	paths := make([]string, 0, 500)
	for i := range 500 {
		tag := fmt.Sprintf("t%d", i)
		c.upstream.PushManifest(name, tag, image.Manifest)
		paths = append(paths, "HEAD /v2/"+name+"/manifests/"+tag)
	}
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.ManifestGet}, Hold: true})
	connections := c.send(g, paths)
	c.settled(ctx, g) // The upstream has as many requests as it gets at a time. The others wait in the cache.
	closeAll(g, connections)
	// A slot may pass to a request whose client's leaving is not noticed yet, so the count varies.
	g.Expect(c.settled(ctx, g)).To(BeNumerically("<", len(paths)/2))
	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

func hangUpOnBlobs(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{
		upstream: upstreamsim.Options{Authentication: upstreamsim.Anonymous, Latency: time.Second},
		options:  cacheprocess.Options{"graceperiod": "10s"},
	})
	c.push(name, tag, 1, 1, mib)
	paths := make([]string, 0, 300)
	for i := range 300 {
		paths = append(paths, "GET /v2/"+name+"/blobs/"+digest.FromString(fmt.Sprint(i)).String())
	}
	c.hangUp(g, paths)
	g.Expect(c.settled(ctx, g)).To(BeNumerically("<", 150))
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

// pushTags adds a number of tags to the upstream and returns their sorted names.
func (c *cache) pushTags(n int) []string {
	image := c.push(name, tag, 1, 1, 1000)
	names := make([]string, 0, n)
	for i := range n - 1 {
		names = append(names, fmt.Sprintf("t%03d", i))
		c.upstream.PushManifest(name, names[i], image.Manifest)
	}
	return append(names, tag)
}

func hangUpOnLists(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{upstream: upstreamsim.Options{PageSize: 10, PageTokens: true, Latency: 50 * time.Millisecond}})
	c.pushTags(420)
	var paths []string
	for n := range 30 {
		paths = append(paths, fmt.Sprintf("GET /v2/%s/tags/list?n=%d", name, 100+n))
	}
	c.hangUp(g, paths)
	g.Expect(c.settled(ctx, g, upstreamsim.Tags)).To(BeNumerically("<", 150))

	// Clients that do not hang up are served.
	c.upstream.ResetCounters()
	var group errgroup.Group
	for n := range 30 {
		group.Go(func() error {
			tags, err := c.tags(ctx, fmt.Sprintf("?n=%d", 100+n))
			if err == nil && len(tags) != 100+n {
				err = fmt.Errorf("%d of %d tags", len(tags), 100+n)
			}
			return err
		})
	}
	g.Expect(group.Wait()).To(Succeed())
	g.Expect(c.upstream.Counters().Total(upstreamsim.Tags)).To(BeNumerically("<", 200))
}

func slowOnLargerThanDisk(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{
		// All clients arrive before the first byte and share the transfer.
		upstream: upstreamsim.Options{Authentication: upstreamsim.Anonymous, BytesPerSecond: 64 * mib, Latency: time.Second},
		options:  cacheprocess.Options{"timeouts": map[string]string{"firstbyte": "10s", "idle": "10s"}},
		change:   c.onSmallDisk(g, "24m"),
	})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	image := c.push(name, tag, 1, 1, 64*mib)
	slowCtx, stop := context.WithCancel(ctx)
	var slow sync.WaitGroup
	defer func() { stop(); slow.Wait() }()
	for i := range 2 {
		slow.Go(func() {
			_ = c.use(func(client *pull.Client) error {
				client.BytesPerSecond = float64(64<<10) * float64(1+i)
				_, err := client.Blob(slowCtx, name, image.Layers()[0].Descriptor().Digest)
				return err
			})
		})
	}
	fastCtx, cancel := context.WithTimeout(ctx, 60*time.Second) // At the pace of the slow ones, it takes at least 8 minutes.
	defer cancel()
	var fast errgroup.Group
	for range 3 {
		fast.Go(func() error { return c.layer(fastCtx, image) })
	}
	g.Expect(fast.Wait()).To(Succeed())
}

// exchange sends the header of a request and returns the header of the response, after the connection has been closed.
func (c *cache) exchange(ctx context.Context, g Gomega, header string) part {
	connection, err := net.Dial("tcp", strings.TrimPrefix(c.server.URL(), "http://"))
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = connection.Close() }()
	deadline, _ := ctx.Deadline()
	g.Expect(connection.SetDeadline(deadline)).To(Succeed())
	_, err = io.WriteString(connection, header)
	g.Expect(err).NotTo(HaveOccurred())
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, nil)
	g.Expect(err).NotTo(HaveOccurred(), "the server waits for the body")
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = reader.ReadByte()
	g.Expect(err).To(MatchError(io.EOF), "the server keeps the connection")
	return part{status: response.StatusCode, header: response.Header}
}

func writes(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	c.heat(ctx, g, image)
	for _, request := range []string{
		"PUT /v2/" + name + "/manifests/pushed",
		"POST /v2/" + name + "/blobs/uploads/",
		"PATCH /v2/" + name + "/blobs/uploads/cfdd2d3c-6d2b-4b4e-9f3b-0a3c2f1b7d55",
		"DELETE /v2/" + name + "/manifests/" + image.Digest().String(),
		"BREW /v2/",
	} {
		within, cancel := context.WithTimeout(ctx, 15*time.Second)
		response := c.exchange(within, g, request+" HTTP/1.1\r\nHost: cache\r\n"+
			"Content-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 4194304\r\n\r\n")
		cancel()
		g.Expect(response.status).To(Equal(http.StatusMethodNotAllowed), request)
		g.Expect(response.header.Get("Allow")).To(Equal("GET, HEAD, OPTIONS"))
	}
	c.upstream.Refuse()
	g.Expect(c.pull(ctx, name, image.Digest().String())).To(Succeed())
}

// forms sends forms with read requests. A server that parses parameters would keep a multipart form in memory and in
// files.
func forms(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	for _, request := range []string{
		"GET /v2/" + name + "/blobs/uploads/cfdd2d3c-6d2b-4b4e-9f3b-0a3c2f1b7d55",
		"OPTIONS /v2/" + name + "/blobs/uploads/",
	} {
		within, cancel := context.WithTimeout(ctx, 15*time.Second)
		response := c.exchange(within, g, request+" HTTP/1.1\r\nHost: cache\r\n"+
			"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 52428800\r\n\r\n--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n")
		cancel()
		g.Expect(response.status).To(BeNumerically("<", 500), request)
	}
}

// tags lists tags.
func (c *cache) tags(ctx context.Context, query string) ([]string, error) {
	var list struct{ Tags []string }
	err := c.use(func(client *pull.Client) error {
		response, err := client.Do(ctx, http.MethodGet, "/v2/"+name+"/tags/list"+query, nil)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		return json.NewDecoder(response.Body).Decode(&list)
	})
	return list.Tags, err
}

func tagsAfterOneThatIsGone(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	all := c.pushTags(17)
	c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.Tags}, Times: 1, Status: http.StatusNotFound})
	g.Expect(c.tags(ctx, "?n=5&last=t007a")).To(Equal(all[8:13]))
}

func tagsInOutage(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	all := c.pushTags(17)
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	c.upstream.Misbehave(upstreamsim.Faults{Status: http.StatusServiceUnavailable})
	for _, query := range []string{"", "?n=5"} {
		tags, err := c.tags(ctx, query)
		g.Expect(pull.StatusOf(err)).To(BeNumerically(">=", 500), "%v of 17 tags", tags)
	}
	c.upstream.Misbehave(upstreamsim.Faults{})
	g.Eventually(ctx, func() ([]string, error) { return c.tags(ctx, "") }).WithTimeout(10 * time.Second).Should(Equal(all))
	c.upstream.Refuse()
	g.Expect(c.tags(ctx, "")).To(Equal(all), "the last complete list")
	g.Expect(c.tags(ctx, "?n=5&last=t003")).To(Equal(all[4:9]))
}

func manifestBombs(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	c.heat(ctx, g, image)
	var group errgroup.Group
	for i := range 8 {
		bomb := upstreamsim.Content{
			MediaType: "application/vnd.oci.image.manifest.v1+json",
			Data: []byte(fmt.Sprintf(`{"schemaVersion":2,"annotations":{"a":"%d"},"blobs":[{}`, i) +
				strings.Repeat(",{}", 1_350_000) + `]}`),
		}
		c.upstream.PushManifest(name, fmt.Sprintf("bomb%d", i), bomb)
		group.Go(func() error {
			return c.use(func(client *pull.Client) error {
				_, err := client.Manifest(ctx, name, fmt.Sprintf("bomb%d", i))
				if pull.StatusOf(err) < http.StatusBadRequest {
					return errors.Join(errors.New("it was not refused"), err)
				}
				return nil
			})
		})
	}
	g.Expect(group.Wait()).To(Succeed())
	peak, err := c.server.PeakRSS()
	g.Expect(err).NotTo(HaveOccurred())
	// A parsed manifest needs twice as much, and all are requested at once.
	g.Expect(peak).To(BeNumerically("<", 256*mib))
}

func movesSlowly(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{
		upstream: upstreamsim.Options{Latency: 1200 * time.Millisecond},
		options:  cacheprocess.Options{"timeouts": map[string]string{"firstbyte": "10s"}},
	})
	c.heat(ctx, g, c.push(name, tag, 1, 1, mib))
	moved := c.push(name, tag, 2, 1, mib)
	g.Expect(c.use(func(client *pull.Client) error {
		dgst, err := client.Head(ctx, name, tag)
		g.Expect(dgst).To(Equal(moved.Digest()))
		return err
	})).To(Succeed())
}
