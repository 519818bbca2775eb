// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package enginetest runs a complete engine for tests: behind Distribution's application and a server, in front of an
// upstream.
package enginetest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

// Name is a repository.
const Name = "library/app"

// T is what GinkgoT, testing.T and testing.B have in common.
type T interface {
	Helper()
	TempDir() string
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Cache is an engine with all that surrounds it.
type Cache struct {
	Upstream *upstreamsim.Registry
	Root     string
	Metrics  *metrics.Metrics

	Engine *pullthrough.Engine
	App    *handlers.App
	Server *httptest.Server
	Client *pull.Client

	t        T
	registry *prometheus.Registry
}

// New starts an upstream, and a cache for it with the given changes of its options.
func New(t T, upstream upstreamsim.Options, change func(*pullthrough.Options)) *Cache {
	t.Helper()
	logrus.SetOutput(io.Discard)
	registry, err := upstreamsim.Start(upstream)
	if err != nil {
		t.Fatalf("start the upstream: %v", err)
	}
	t.Cleanup(registry.Close)
	c := &Cache{t: t, Upstream: registry, Root: t.TempDir()}
	c.Start(change)
	t.Cleanup(c.Stop)
	return c
}

// Start starts a stopped cache, with the given changes of its options.
func (c *Cache) Start(change func(*pullthrough.Options)) {
	c.t.Helper()
	c.registry = prometheus.NewRegistry()
	c.Metrics = metrics.New(c.registry)
	log := logrus.New()
	log.SetOutput(ginkgo.GinkgoWriter)
	o := pullthrough.Defaults()
	o.RemoteURL, o.RootDirectory, o.Metrics, o.Log = c.Upstream.URL(), c.Root, c.Metrics, log
	o.ValidationTimeout = time.Minute // A busy machine must not look like a slow upstream.
	if change != nil {
		change(&o)
	}
	var err error
	if c.Engine, err = pullthrough.New(o); err != nil {
		c.t.Fatalf("start the engine: %v", err)
	}
	config := &configuration.Configuration{Storage: configuration.Storage{
		"filesystem":  configuration.Parameters{"rootdirectory": c.Root},
		"delete":      configuration.Parameters{"enabled": true}, // Nothing may be deleted even so.
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}}
	c.Engine.Install(config)
	c.App = handlers.NewApp(context.Background(), config)
	c.Server = c.Serve(nil)
	c.Client = pull.NewClient(c.Server.URL, &http.Transport{MaxIdleConnsPerHost: 64})
}

// Serve starts another server of the cache, with the given changes.
func (c *Cache) Serve(change func(*http.Server)) *httptest.Server {
	server := httptest.NewUnstartedServer(c.Engine.Handler(pullthrough.API{}, c.App))
	c.Engine.LimitClients(server.Config)
	if change != nil {
		change(server.Config)
	}
	server.Start()
	return server
}

// Stop stops the cache. The upstream stays.
func (c *Cache) Stop() {
	if c.Server == nil {
		return
	}
	c.Client.Close()
	c.Server.Close()
	c.Server = nil
	if err := c.App.Shutdown(); err != nil {
		c.t.Fatalf("stop the cache: %v", err)
	}
}

// Restart starts the cache again, with the given changes of its options.
func (c *Cache) Restart(change func(*pullthrough.Options)) {
	c.Stop()
	c.Start(change)
}

// Pull pulls an image by tag or digest.
func (c *Cache) Pull(name, reference string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := c.Client.Image(ctx, name, reference)
	return err
}

// ExpectNoLeaks has each test of a container fail that leaves goroutines behind, except for those that Distribution never
// ends.
func ExpectNoLeaks() {
	ginkgo.BeforeEach(func() {
		running := goleak.IgnoreCurrent()
		ginkgo.DeferCleanup(func() {
			gomega.Eventually(func() error {
				return goleak.Find(running, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
			}).Should(gomega.Succeed())
		})
	})
	ginkgo.AfterEach(func() { http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
}

// Get makes a request with the given header, and returns the response with its body.
func (c *Cache) Get(ctx context.Context, path string, header http.Header) (*http.Response, []byte) {
	ginkgo.GinkgoHelper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Server.URL+path, nil)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	request.Header = header
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return response, body
}

// BlobPath returns the file of a blob.
func (c *Cache) BlobPath(d digest.Digest) string {
	return filepath.Join(c.Root, "docker/registry/v2/blobs/sha256", d.Encoded()[:2], d.Encoded(), "data")
}

// Stored reports whether there is a file of a blob.
func (c *Cache) Stored(d digest.Digest) bool {
	_, err := os.Stat(c.BlobPath(d))
	return err == nil
}

// Labels returns the values of all labels of metrics.
func (c *Cache) Labels() []string {
	families, err := c.registry.Gather()
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	var values []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				values = append(values, label.GetValue())
			}
		}
	}
	return values
}

// Value returns the value of a counter or gauge, summed over the labels that are not given.
func (c *Cache) Value(name string, labels ...string) float64 {
	families, err := c.registry.Gather()
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	var sum float64
	for _, family := range families {
		if family.GetName() != "registry_proxy_"+name {
			continue
		}
		for _, metric := range family.GetMetric() {
			matched := 0
			for _, label := range metric.GetLabel() {
				for i := 0; i < len(labels); i += 2 {
					if label.GetName() == labels[i] && label.GetValue() == labels[i+1] {
						matched++
					}
				}
			}
			if matched == len(labels)/2 {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return sum
}
