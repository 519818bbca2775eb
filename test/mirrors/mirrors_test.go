// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package mirrors_test pulls with containerd's resolver from mirrors in the states that docs/usage.md describes. It
// shows what nodes do, without a node.
package mirrors_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMirrors(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Mirrors Suite")
}

const (
	// upstreamContent and mirrorContent are manifests, which differ so that a test knows where a tag was resolved.
	upstreamContent = `{"schemaVersion":2,"annotations":{"from":"upstream"}}`
	mirrorContent   = `{"schemaVersion":2,"annotations":{"from":"mirror"}}`
	// headerTimeout replaces containerd's 30 seconds.
	headerTimeout = 300 * time.Millisecond
)

// server is a registry with one repository.
type server struct {
	*httptest.Server
	// content is what its tag leads to. It also has the content of the upstream by digest.
	content string
	// path precedes the repository.
	path string
	// fail responds instead of the registry if it returns true.
	fail func(w http.ResponseWriter, r *http.Request) bool

	lock     sync.Mutex
	requests []string
}

func newServer(content string) *server {
	s := &server{content: content, path: "/v2"}
	s.Server = httptest.NewServer(s)
	DeferCleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.lock.Unlock()
	if s.fail != nil && s.fail(w, r) {
		return
	}
	reference, ok := strings.CutPrefix(r.URL.Path, s.path+"/team/app/manifests/")
	content, found := map[string]string{
		"1":                                   s.content,
		digest.FromString(s.content).String(): s.content,
		digest.FromString(upstreamContent).String(): upstreamContent,
	}[reference]
	if !ok || !found {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", imagev1.MediaTypeImageManifest)
	w.Header().Set("Docker-Content-Digest", digest.FromString(content).String())
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, content)
	}
}

// all returns the requests.
func (s *server) all() []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return slices.Clone(s.requests)
}

// mirror is a host in hosts.toml.
type mirror struct {
	url          string
	capabilities string
	options      string
}

const (
	pull    = `["pull"]`
	both    = `["pull", "resolve"]`
	resolve = `["resolve"]`
)

// pullImage pulls a manifest by its tag and returns its content.
func pullImage(upstream *server, mirrors ...mirror) (string, error) {
	GinkgoHelper()
	const host = "registry.example.com"
	root := GinkgoT().TempDir()
	Expect(os.Mkdir(filepath.Join(root, host), 0o755)).To(Succeed())
	hosts := fmt.Sprintf("server = %q\n", upstream.URL)
	for _, m := range mirrors {
		hosts += fmt.Sprintf("[host.%q]\n  capabilities = %s\n  %s\n", m.url, m.capabilities, m.options)
	}
	Expect(os.WriteFile(filepath.Join(root, host, "hosts.toml"), []byte(hosts), 0o600)).To(Succeed())

	ctx := context.Background()
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, config.HostOptions{
		HostDir: config.HostDirFromRoot(root),
		UpdateClient: func(client *http.Client) error {
			client.Transport.(*http.Transport).ResponseHeaderTimeout = headerTimeout
			return nil
		},
		// The kubelet passes the image pull secret of the pod for the image's registry.
		Credentials: func(string) (string, string, error) { return "alice", "hunter2", nil },
	})})
	name, descriptor, err := resolver.Resolve(ctx, host+"/team/app:1")
	if err != nil {
		return "", err
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	Expect(err).NotTo(HaveOccurred())
	reader, err := fetcher.Fetch(ctx, descriptor)
	if err != nil {
		return "", err
	}
	defer func() { _ = reader.Close() }()
	content, err := io.ReadAll(reader)
	return string(content), err
}

// respond lets a server respond with a status.
func respond(status int) func(*server) {
	return func(s *server) {
		s.fail = func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			return true
		}
	}
}

var _ = Describe("A node with mirrors", func() {
	const (
		head = "HEAD /v2/team/app/manifests/1"
		get  = "GET /v2/team/app/manifests/"
	)
	var (
		upstream *server
		fromHost = func(content string) string { return get + digest.FromString(content).String() }
	)

	BeforeEach(func() { upstream = newServer(upstreamContent) })

	DescribeTable("goes on to the next host if the first one",
		func(requests int, prepare func(*server)) {
			first, second := newServer(mirrorContent), newServer(upstreamContent)
			prepare(first)
			Expect(pullImage(upstream, mirror{url: first.URL, capabilities: both}, mirror{url: second.URL, capabilities: both})).To(Equal(upstreamContent))
			Expect(first.all()).To(HaveLen(requests), "one for the tag and one for the content, or more")
			Expect(second.all()).To(HaveExactElements(head, fromHost(upstreamContent)))
			Expect(upstream.all()).To(BeEmpty())
		},
		Entry("is down", 0, func(s *server) { s.Close() }),
		Entry("does not respond in time", 2, func(s *server) {
			s.fail = func(_ http.ResponseWriter, r *http.Request) bool {
				<-r.Context().Done()
				return true
			}
		}),
		Entry("ends the connection", 2, func(s *server) {
			s.fail = func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
		}),
		Entry("responds with 401", 2, respond(http.StatusUnauthorized)),
		// The second request for the tag is for the details of the error.
		Entry("responds with 403", 3, respond(http.StatusForbidden)),
		Entry("responds with 404", 2, respond(http.StatusNotFound)),
		Entry("responds with 429, after five attempts", 10, respond(http.StatusTooManyRequests)),
		Entry("responds with 500", 2, respond(http.StatusInternalServerError)),
		Entry("responds with 503", 2, respond(http.StatusServiceUnavailable)),
	)

	Describe("with a private CA", func() {
		newTLSServer := func() *server {
			host := &server{content: upstreamContent, path: "/v2"}
			host.Server = httptest.NewTLSServer(host)
			DeferCleanup(host.Close)
			return host
		}

		It("uses a host with a CA bundle", func() {
			host := newTLSServer()
			file := filepath.Join(GinkgoT().TempDir(), "ca.pem")
			Expect(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: host.Certificate().Raw}), 0o600)).To(Succeed())
			Expect(pullImage(upstream, mirror{url: host.URL, capabilities: both, options: fmt.Sprintf("ca = [%q]", file)})).To(Equal(upstreamContent))
			Expect(host.all()).To(HaveLen(2))
		})

		It("goes on to the next host without one", func() {
			host := newTLSServer()
			host.Config.ErrorLog = log.New(GinkgoWriter, "", 0)
			Expect(pullImage(upstream, mirror{url: host.URL, capabilities: both})).To(Equal(upstreamContent))
			Expect(host.all()).To(BeEmpty())
		})
	})

	DescribeTable("uses the upstream if no host has the image",
		func(capabilities string) {
			down, empty := newServer(mirrorContent), newServer(mirrorContent)
			down.Close()
			respond(http.StatusNotFound)(empty)
			Expect(pullImage(upstream, mirror{url: down.URL, capabilities: capabilities}, mirror{url: empty.URL, capabilities: capabilities})).To(Equal(upstreamContent))
			Expect(upstream.all()).To(HaveExactElements(head, fromHost(upstreamContent)))
		},
		Entry("to pull", pull),
		Entry("to pull and resolve", both),
	)

	Describe("with the capability pull", func() {
		It("resolves tags at the upstream and pulls content from the mirror", func() {
			host := newServer(mirrorContent)
			Expect(pullImage(upstream, mirror{url: host.URL, capabilities: pull})).To(Equal(upstreamContent))
			Expect(upstream.all()).To(HaveExactElements(head))
			Expect(host.all()).To(HaveExactElements(fromHost(upstreamContent)))
		})

		It("cannot pull a tag while the upstream is down", func() {
			upstream.Close()
			_, err := pullImage(upstream, mirror{url: newServer(upstreamContent).URL, capabilities: pull})
			Expect(err).To(HaveOccurred())
		})
	})

	Describe("with the capability resolve", func() {
		It("resolves tags at the mirror, and needs no upstream", func() {
			upstream.Close()
			Expect(pullImage(upstream, mirror{url: newServer(mirrorContent).URL, capabilities: both})).To(Equal(mirrorContent))
		})

		It("does not resolve tags at a mirror without pull", func() {
			host := newServer(mirrorContent)
			Expect(pullImage(upstream, mirror{url: host.URL, capabilities: resolve})).To(Equal(upstreamContent))
			Expect(host.all()).NotTo(ContainElement(head))
		})
	})

	It("sends the image pull secret for the upstream to a mirror that asks for it", func() {
		host := newServer(upstreamContent)
		var authorized []string
		host.fail = func(w http.ResponseWriter, r *http.Request) bool {
			if user, password, ok := r.BasicAuth(); ok {
				authorized = append(authorized, user+":"+password)
				return false
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		Expect(pullImage(upstream, mirror{url: host.URL, capabilities: pull})).To(Equal(upstreamContent))
		Expect(authorized).To(ConsistOf("alice:hunter2"))
	})

	DescribeTable("requests the path of the URL",
		func(path, options, expected string) {
			host := newServer(upstreamContent)
			host.path = expected
			Expect(pullImage(upstream, mirror{url: host.URL + path, capabilities: pull, options: options})).To(Equal(upstreamContent))
			Expect(host.all()).To(HaveExactElements("GET " + expected + "/team/app/manifests/" + digest.FromString(upstreamContent).String()))
		},
		Entry("none", "", "", "/v2"),
		Entry("a slash", "/", "", "/v2"),
		Entry("a path", "/proxy/docker-hub", "", "/proxy/docker-hub/v2"),
		Entry("a path with a slash at the end", "/proxy/docker-hub/", "", "/proxy/docker-hub/v2"),
		Entry("a path that ends with /v2", "/proxy/v2", "", "/proxy/v2"),
		Entry("overridePath", "/v2/docker-hub", "override_path = true", "/v2/docker-hub"),
		Entry("overridePath without a path", "", "override_path = true", ""),
	)

	It("uses IPv6 addresses", func() {
		listener, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			Skip("this machine has no IPv6: " + err.Error())
		}
		host := &server{content: upstreamContent, path: "/v2"}
		host.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: host}}
		host.Start()
		DeferCleanup(host.Close)
		Expect(pullImage(upstream, mirror{url: host.URL, capabilities: pull})).To(Equal(upstreamContent))
		Expect(host.all()).To(HaveLen(1))
	})
})
