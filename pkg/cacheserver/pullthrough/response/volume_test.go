// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package response_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

// volumeServer serves what comes out of a pipe, as from a volume that hangs once the pipe is empty.
type volumeServer struct {
	*httptest.Server
	volume *volume.Monitor
	in     *os.File
	events chan event.Event
}

func startVolume(t *testing.T, encrypted bool, size int64) *volumeServer {
	t.Helper()
	g := NewWithT(t)
	out, in, err := os.Pipe()
	g.Expect(err).NotTo(HaveOccurred())
	s := &volumeServer{in: in, events: make(chan event.Event, 1), volume: volume.New(2 * time.Second)}
	go s.volume.Run(t.Context(), nil, func(bool) {})
	s.Server = httptest.NewUnstartedServer(response.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.volume.Hangs() { // As the engine does.
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		defer out.Close()
		defer response.From(r.Context()).Watch()()
		response.From(r.Context()).Requested(route.Route{Kind: route.Blob})
		w.Header().Set("Content-Length", fmt.Sprint(size))
		body := response.NewBody(r.Context(), w)
		_, _ = body.ReadFrom(&io.LimitedReader{R: out, N: size})
		if _, err := body.Finish(); err != nil {
			panic(http.ErrAbortHandler)
		}
	})))
	log, _ := test.NewNullLogger()
	response.Wrap(s.Config, time.Minute, s.volume, log, func(e event.Event) { s.events <- e })
	if encrypted {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		_ = in.Close()
		s.Close()
	})
	return s
}

func TestVolumeThatHangs(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("ends the response with TLS %t", encrypted), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			const part = 100_000
			s := startVolume(t, encrypted, 2*part)
			go func() { _, _ = s.in.Write(make([]byte, part)) }()
			resp, err := s.Client().Get(s.URL)
			g.Expect(err).NotTo(HaveOccurred())
			defer resp.Body.Close()
			began := time.Now()
			content, err := io.ReadAll(resp.Body)
			g.Expect(err).To(Equal(io.ErrUnexpectedEOF), "upon which containerd continues with the next host")
			g.Expect(content).NotTo(BeEmpty())
			g.Expect(time.Since(began)).To(BeNumerically(">=", 2*time.Second))
			g.Expect(s.volume.Hangs()).To(BeTrue())
			_, _ = s.in.Write(make([]byte, part)) // The handler may close the pipe before all is written.
			g.Eventually(s.volume.Hangs).Should(BeFalse())
			g.Eventually(s.events).Should(Receive(HaveField("Outcome", event.Failed)), "it was not the client")
		})
		t.Run(fmt.Sprintf("is not blamed for a slow client with TLS %t", encrypted), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			const size = 16 << 20
			s := startVolume(t, encrypted, size)
			go func() { _, _ = s.in.Write(make([]byte, size)) }()
			resp, err := s.Client().Get(s.URL)
			g.Expect(err).NotTo(HaveOccurred())
			defer resp.Body.Close()
			g.Consistently(s.volume.Hangs, 4*time.Second).Should(BeFalse())
			g.Expect(io.Copy(io.Discard, resp.Body)).To(BeEquivalentTo(size))
		})
		t.Run(fmt.Sprintf("is slow but not stuck with TLS %t", encrypted), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			const part = 32 << 10
			s := startVolume(t, encrypted, 4*part)
			go func() {
				for range 4 {
					_, _ = s.in.Write(make([]byte, part))
					time.Sleep(time.Second)
				}
			}()
			resp, err := s.Client().Get(s.URL)
			g.Expect(err).NotTo(HaveOccurred())
			defer resp.Body.Close()
			g.Expect(io.ReadAll(resp.Body)).To(HaveLen(4 * part))
		})
	}
}

func TestVolumeThatHangsEndsAStreamOfHTTP2(t *testing.T) {
	g := NewWithT(t)
	monitor, returns := volume.New(time.Second), make(chan struct{})
	go monitor.Run(t.Context(), nil, func(bool) {})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		defer response.From(r.Context()).Watch()()
		defer monitor.Read().Returned()
		<-returns
	}))
	log, _ := test.NewNullLogger()
	response.Wrap(server.Config, time.Minute, monitor, log, func(event.Event) {})
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	defer close(returns)
	began := time.Now()
	resp, err := server.Client().Get(server.URL)
	if err == nil {
		_ = resp.Body.Close()
	}
	g.Expect(err).To(MatchError(ContainSubstring("stream error")))
	g.Expect(time.Since(began)).To(BeNumerically(">=", time.Second))
}

func TestContainerdContinuesElsewhere(t *testing.T) {
	g := NewWithT(t)
	const size = 1 << 20
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i >> 8)
	}
	stuck := startVolume(t, false, size)
	go func() { _, _ = stuck.in.Write(content[:size/2]) }()
	asked := make(chan string, 10)
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Range")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(registry.Close)
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: func(string) (hosts []docker.RegistryHost, err error) {
		for _, server := range []*httptest.Server{stuck.Server, registry} {
			hosts = append(hosts, docker.RegistryHost{
				Client: server.Client(), Host: strings.TrimPrefix(server.URL, "http://"), Scheme: "http", Path: "/v2",
				Capabilities: docker.HostCapabilityPull,
			})
		}
		return hosts, nil
	}})
	fetcher, err := resolver.Fetcher(t.Context(), "registry.example.com/library/app:v1")
	g.Expect(err).NotTo(HaveOccurred())
	reader, err := fetcher.Fetch(t.Context(), v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: digest.FromBytes(content), Size: size})
	g.Expect(err).NotTo(HaveOccurred())
	defer reader.Close()
	received, err := io.ReadAll(reader)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(bytes.Equal(received, content)).To(BeTrue())
	g.Expect(asked).To(Receive(HavePrefix("bytes=")))
}
