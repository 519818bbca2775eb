// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const clientTimeout = time.Minute

// withServer is a bubble whose engine limits the clients of a server, and serves a manifest to them. Everything else is
// answered by the other handler.
func withServer(t *testing.T, manifest string, other http.HandlerFunc, test func(b bubble, network *pipes)) {
	change := func(o *Options) { o.ClientTimeout, o.Freshness = clientTimeout, 365*24*time.Hour }
	inBubble(t, change, func(b bubble) {
		b.upstream.Push(manifest)
		_, err := b.engine.tags.Resolve(b.t.Context(), "library/app", "v1")
		b.Expect(err).NotTo(HaveOccurred())
		server := &http.Server{Handler: b.engine.Handler(API{}, other), ReadHeaderTimeout: clientTimeout, Protocols: new(http.Protocols)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		b.engine.LimitClients(server)
		network := newPipes()
		served := make(chan error)
		go func() { served <- server.Serve(network) }()
		defer func() {
			b.Expect(server.Close()).To(Succeed())
			b.Expect(<-served).To(MatchError(http.ErrServerClosed))
		}()
		test(b, network)
	})
}

// client2 speaks HTTP/2 without what a client does by itself.
type client2 struct {
	bubble
	*http2.Framer
	next uint32
}

func newClient2(b bubble, connection net.Conn) *client2 {
	_, err := io.WriteString(connection, http2.ClientPreface)
	b.Expect(err).NotTo(HaveOccurred())
	c := &client2{bubble: b, Framer: http2.NewFramer(connection, connection), next: 1}
	b.Expect(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})).To(Succeed())
	b.Expect(c.WriteWindowUpdate(0, 1<<30)).To(Succeed())
	return c
}

// ask sends a request on a stream of its own.
func (c *client2) ask(method, path string) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "cache"}, {":path", path}} {
		c.Expect(encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})).To(Succeed())
	}
	c.Expect(c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.next, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
	})).To(Succeed())
	c.next += 2
}

func TestClientsThatDoNotReadAreCutOffWithHTTP2(t *testing.T) {
	withServer(t, strings.Repeat("large", 20_000), http.NotFound, func(b bubble, network *pipes) {
		connection := network.dial()
		defer connection.Close()
		client := newClient2(b, connection)
		begin := time.Now()
		for range 200 {
			client.ask(http.MethodGet, "/v2/library/app/manifests/v1")
		}
		var err error
		for err == nil && time.Since(begin) < 10*clientTimeout {
			time.Sleep(clientTimeout / 10)
			err = client.WritePing(false, [8]byte{})
		}
		b.Expect(err).To(HaveOccurred())
	})
}

func TestClientsThatHaveTheirAnswersAreLeftAlone(t *testing.T) {
	withServer(t, "manifest", http.NotFound, func(b bubble, network *pipes) {
		const requests, atOnce = 4000, 100
		connection := network.dialBuffered()
		defer connection.Close()
		client := newClient2(b, connection)
		answers, asked := 0, 0
		for ; asked < atOnce; asked++ {
			client.ask(http.MethodHead, "/v2/library/app/manifests/v1")
		}
		for {
			frame, err := client.ReadFrame()
			if errors.Is(err, os.ErrDeadlineExceeded) && answers == requests {
				return
			}
			b.Expect(err).NotTo(HaveOccurred())
			switch frame := frame.(type) {
			case *http2.RSTStreamFrame:
				b.t.Fatalf("a stream was cut off: %s", frame.ErrCode)
			case *http2.HeadersFrame:
				b.Expect(frame.StreamEnded()).To(BeTrue())
				if answers++; asked < requests {
					client.ask(http.MethodHead, "/v2/library/app/manifests/v1")
					asked++
				}
				if answers == requests {
					b.Expect(connection.SetReadDeadline(time.Now().Add(3 * clientTimeout))).To(Succeed())
				}
			}
		}
	})
}

func TestClientsGetTheTimeThatTheirAnswersTake(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(10 * clientTimeout)
		http.NotFound(w, r)
	}
	withServer(t, "manifest", slow, func(b bubble, network *pipes) {
		connection := network.dial()
		defer connection.Close()
		client := newClient2(b, connection)
		client.ask(http.MethodHead, "/v2/library/other/manifests/v1")
		for {
			frame, err := client.ReadFrame()
			b.Expect(err).NotTo(HaveOccurred())
			b.Expect(frame).NotTo(BeAssignableToTypeOf(&http2.RSTStreamFrame{}))
			if _, ok := frame.(*http2.HeadersFrame); ok {
				return
			}
		}
	})
}

func TestMissingRequestBodyGetsAResponseAndADisconnect(t *testing.T) {
	refuse := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }
	for _, entry := range []struct{ request, manifest string }{
		{"GET /v2/library/app/manifests/v1", "small"},
		{"GET /v2/library/app/manifests/v1", strings.Repeat("large", 20_000)},
		{"POST /v2/library/app/blobs/uploads/", ""},
		{"PUT /v2/library/app/manifests/v1", ""},
	} {
		withServer(t, entry.manifest, refuse, func(b bubble, network *pipes) {
			connection := network.dial()
			defer connection.Close()
			begin := time.Now()
			_, err := fmt.Fprintf(connection, "%s HTTP/1.1\r\nHost: cache\r\nContent-Length: 10\r\n\r\n", entry.request)
			b.Expect(err).NotTo(HaveOccurred())
			answer, err := io.ReadAll(connection)
			b.Expect(err).NotTo(HaveOccurred())
			b.Expect(string(answer)).To(HavePrefix("HTTP/1.1 "))
			b.Expect(time.Since(begin)).To(And(BeNumerically(">", 0), BeNumerically("<=", 2*clientTimeout)))
		})
	}
}

func TestDisconnectIsNoticedAfterARequestBody(t *testing.T) {
	for _, request := range []string{
		"HEAD %s HTTP/1.1\r\nHost: cache\r\nContent-Length: 1\r\n\r\nx",
		"GET %s HTTP/1.1\r\nHost: cache\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
	} {
		var arrived chan struct{}
		var left chan error
		wait := func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			select {
			case <-r.Context().Done():
				left <- nil
			case <-time.After(10 * clientTimeout):
				left <- errors.New("the request goes on")
			}
		}
		withServer(t, "manifest", wait, func(b bubble, network *pipes) {
			arrived, left = make(chan struct{}), make(chan error, 1) // Channels belong to a bubble.
			connection := network.dial()
			_, err := fmt.Fprintf(connection, request, "/v2/library/other/manifests/v1")
			b.Expect(err).NotTo(HaveOccurred())
			<-arrived
			b.Expect(connection.Close()).To(Succeed())
			b.Expect(<-left).To(Succeed())
		})
	}
}

func TestClientsThatDoNotSendTheBodyOfARequestToReadAreRefused(t *testing.T) {
	for _, request := range []string{
		"HEAD %s HTTP/1.1\r\nHost: cache\r\nContent-Length: 1\r\n\r\n",
		"GET %s HTTP/1.1\r\nHost: cache\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000),
	} {
		withServer(t, "manifest", http.NotFound, func(b bubble, network *pipes) {
			connection := network.dial()
			defer connection.Close()
			go func() { _, _ = fmt.Fprintf(connection, request, "/v2/library/app/manifests/v1") }()
			answer, err := io.ReadAll(connection)
			b.Expect(err).NotTo(HaveOccurred())
			b.Expect(string(answer)).To(HavePrefix("HTTP/1.1 400 "))
		})
	}
}
