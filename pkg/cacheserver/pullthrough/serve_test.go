// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/upstreamsim"
)

// speakBoth has a server speak HTTP/2, too.
func speakBoth(server *http.Server) {
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
}

// stream2 speaks HTTP/2 without what a client does by itself.
type stream2 struct {
	*http2.Framer
	connection net.Conn
	next       uint32
}

func dial2(address string) *stream2 {
	GinkgoHelper()
	connection, err := net.Dial("tcp", address)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(connection.Close)
	_, err = io.WriteString(connection, http2.ClientPreface)
	Expect(err).NotTo(HaveOccurred())
	s := &stream2{Framer: http2.NewFramer(connection, connection), connection: connection, next: 1}
	Expect(s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})).To(Succeed())
	Expect(s.WriteWindowUpdate(0, 1<<30)).To(Succeed())
	return s
}

// ask sends a request on a stream of its own.
func (s *stream2) ask(method, path string) {
	GinkgoHelper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "cache"}, {":path", path}} {
		Expect(encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})).To(Succeed())
	}
	Expect(s.WriteHeaders(http2.HeadersFrameParam{
		StreamID: s.next, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
	})).To(Succeed())
	s.next += 2
}

var _ = Describe("Clients", func() {
	const timeout = 300 * time.Millisecond
	var (
		c       *cache
		address string
	)

	BeforeEach(func(ctx context.Context) {
		c = newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.ClientTimeout, o.Freshness = timeout, time.Hour
		})
		image := upstreamsim.RandomImage(1, 1, 100)
		c.upstream.Push(name, "v1", image)
		for i := range 1000 {
			c.upstream.PushManifest(name, fmt.Sprintf("%0100d", i), image.Manifest)
		}
		c.upstream.PushManifest(name, "large", upstreamsim.Content{
			MediaType: imagev1.MediaTypeImageManifest,
			Data:      []byte(`{"mediaType":"` + imagev1.MediaTypeImageManifest + `","annotations":{"a":"` + strings.Repeat("a", 64<<10) + `"}}`),
		})
		for _, tag := range []string{"v1", "large"} {
			_, err := c.client.Manifest(ctx, name, tag)
			Expect(err).NotTo(HaveOccurred())
		}
		// With small buffers, a few answers that nobody reads fill them.
		server := c.serve(func(server *http.Server) {
			speakBoth(server)
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
		Expect(connection.SetDeadline(time.Now().Add(20 * time.Second))).To(Succeed())
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

	It("that do not read are cut off with HTTP/2, too", func() {
		client := dial2(address)
		for range 200 {
			client.ask(http.MethodGet, "/v2/library/app/manifests/large")
		}
		Eventually(func() error { return client.WritePing(false, [8]byte{}) }).
			WithTimeout(10 * time.Second).WithPolling(100 * time.Millisecond).Should(HaveOccurred())
	})

	It("that have their answers are left alone", func() {
		client := dial2(address)
		answers, asked := 0, 0
		for ; asked < 100; asked++ {
			client.ask(http.MethodHead, "/v2/library/app/manifests/v1")
		}
		Expect(client.connection.SetReadDeadline(time.Now().Add(20 * time.Second))).To(Succeed())
		for {
			frame, err := client.ReadFrame()
			if errors.Is(err, os.ErrDeadlineExceeded) && answers == asked {
				return
			}
			Expect(err).NotTo(HaveOccurred())
			switch frame := frame.(type) {
			case *http2.RSTStreamFrame:
				Fail("a stream was cut off: " + frame.ErrCode.String())
			case *http2.HeadersFrame:
				Expect(frame.StreamEnded()).To(BeTrue())
				if answers++; asked < 4000 {
					client.ask(http.MethodHead, "/v2/library/app/manifests/v1")
					asked++
				}
			}
			if answers == asked {
				Expect(client.connection.SetReadDeadline(time.Now().Add(3 * timeout))).To(Succeed())
			}
		}
	})

	It("that announce a body, and neither send it nor read, are cut off", func(ctx context.Context) {
		image := upstreamsim.RandomImage(2, 1, 16*mib)
		c.upstream.Push(name, "blob", image)
		Expect(c.pull(name, "blob")).To(Succeed())
		closed := make(chan struct{})
		server := c.serve(func(server *http.Server) {
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
			name, image.Layers()[0].Descriptor().Digest)
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, closed).WithTimeout(10 * time.Second).Should(BeClosed())
	})

	DescribeTable("that announce a body and do not send it get their answer, and are cut off", func(request string) {
		connection, err := net.Dial("tcp", address)
		Expect(err).NotTo(HaveOccurred())
		defer connection.Close()
		Expect(connection.SetDeadline(time.Now().Add(10 * time.Second))).To(Succeed())
		_, err = io.WriteString(connection, request+" HTTP/1.1\r\nHost: cache\r\nContent-Length: 10\r\n\r\n")
		Expect(err).NotTo(HaveOccurred())
		answer, err := io.ReadAll(connection)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(answer)).To(HavePrefix("HTTP/1.1 "))
	},
		Entry("a small manifest", "GET /v2/library/app/manifests/v1"),
		Entry("a large manifest", "GET /v2/library/app/manifests/large"),
		Entry("an upload", "POST /v2/library/app/blobs/uploads/"),
		Entry("a manifest that is pushed", "PUT /v2/library/app/manifests/v1"),
	)

	It("get the time that the cache's own work takes", func() {
		c := newCache(GinkgoT(), upstreamsim.Options{Latency: 2 * timeout}, func(o *pullthrough.Options) { o.ClientTimeout = timeout })
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		server := c.serve(speakBoth)
		DeferCleanup(server.Close)
		client := dial2(server.Listener.Addr().String())
		client.ask(http.MethodHead, "/v2/library/app/manifests/v1")
		Expect(client.connection.SetReadDeadline(time.Now().Add(20 * time.Second))).To(Succeed())
		for {
			frame, err := client.ReadFrame()
			Expect(err).NotTo(HaveOccurred())
			Expect(frame).NotTo(BeAssignableToTypeOf(&http2.RSTStreamFrame{}))
			if _, ok := frame.(*http2.HeadersFrame); ok {
				return
			}
		}
	})
})
