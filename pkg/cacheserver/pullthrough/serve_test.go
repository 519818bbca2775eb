// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("Clients", func() {
	var (
		c       *enginetest.Cache
		blob    upstreamsim.Content
		address string
	)

	BeforeEach(func(ctx context.Context) {
		c = enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Freshness = time.Hour })
		image := upstreamsim.RandomImage(1, 1, 100)
		c.Upstream.Push(name, "v1", image)
		for i := range 1000 {
			c.Upstream.PushManifest(name, fmt.Sprintf("%0100d", i), image.Manifest)
		}
		_, err := c.Client.Manifest(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		blob = upstreamsim.NewLayer(2, 16*mib)
		c.Upstream.Push(name, "blob", upstreamsim.NewImage(blob))
		Expect(c.Pull(name, "blob")).To(Succeed())
		// The machine may be too busy to give answers in so short a time.
		c.Restart(func(o *pullthrough.Options) { o.ClientTimeout, o.Freshness = 300*time.Millisecond, time.Hour })
		// With small buffers, a few answers that nobody reads fill them.
		server := c.Serve(func(server *http.Server) {
			server.ConnContext = func(ctx context.Context, connection net.Conn) context.Context {
				defer GinkgoRecover()
				Expect(connection.(*net.TCPConn).SetWriteBuffer(16 << 10)).To(Succeed())
				return ctx
			}
		})
		DeferCleanup(server.Close)
		address = server.Listener.Addr().String()
	})

	DescribeTable("that do not read are cut off, however small the answers", func(path string) {
		connection, err := net.Dial("tcp", address)
		Expect(err).NotTo(HaveOccurred())
		defer connection.Close()
		Expect(connection.SetDeadline(time.Now().Add(2 * time.Minute))).To(Succeed())
		requests := []byte(strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: cache\r\n\r\n", 1000))
		for err == nil {
			_, err = connection.Write(requests)
		}
		Expect(err).NotTo(MatchError(os.ErrDeadlineExceeded))
	},
		Entry("manifests", "/v2/library/app/manifests/v1"),
		Entry("tags", "/v2/library/app/tags/list"),
		Entry("the catalog", "/v2/_catalog"),
		Entry("errors", "/v2/library/app/blobs/unknown"),
	)

	It("that announce a body, and neither send it nor read, are cut off", func(ctx context.Context) {
		closed := make(chan struct{})
		server := c.Serve(func(server *http.Server) {
			server.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					close(closed)
				}
			}
		})
		defer server.Close()
		defer server.CloseClientConnections()
		connection, err := net.Dial("tcp", server.Listener.Addr().String())
		Expect(err).NotTo(HaveOccurred())
		defer connection.Close()
		_, err = fmt.Fprintf(connection, "GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: cache\r\nContent-Length: 10\r\n\r\n",
			name, blob.Descriptor().Digest)
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, closed).Should(BeClosed())
	})
})
