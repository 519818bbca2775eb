// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

func TestPullthrough(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "Pull-Through Engine Suite")
}

func init() {
	logrus.SetOutput(io.Discard)
}

// tester is what GinkgoT and testing.B have in common.
type tester interface {
	Helper()
	TempDir() string
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// cache is an engine behind Distribution's application and a server, and its upstream.
type cache struct {
	t        tester
	upstream *upstreamsim.Registry
	root     string
	metrics  *metrics.Metrics
	registry *prometheus.Registry

	engine *pullthrough.Engine
	app    *handlers.App
	server *httptest.Server
	client *pull.Client
}

// newCache starts an upstream, and a cache for it with the given changes of its options.
func newCache(t tester, upstream upstreamsim.Options, change func(*pullthrough.Options)) *cache {
	t.Helper()
	registry, err := upstreamsim.Start(upstream)
	if err != nil {
		t.Fatalf("starting the upstream: %v", err)
	}
	t.Cleanup(registry.Close)
	c := &cache{t: t, upstream: registry, root: t.TempDir()}
	c.start(change)
	t.Cleanup(c.stop)
	return c
}

func (c *cache) start(change func(*pullthrough.Options)) {
	c.t.Helper()
	c.registry = prometheus.NewRegistry()
	c.metrics = metrics.New(c.registry)
	log := logrus.New()
	log.SetOutput(GinkgoWriter)
	o := pullthrough.Defaults()
	o.RemoteURL, o.RootDirectory, o.Metrics, o.Log = c.upstream.URL(), c.root, c.metrics, log
	o.ValidationTimeout = time.Minute // A busy machine is no upstream that does not answer in time.
	if change != nil {
		change(&o)
	}
	var err error
	if c.engine, err = pullthrough.New(o); err != nil {
		c.t.Fatalf("starting the engine: %v", err)
	}
	config := &configuration.Configuration{Storage: configuration.Storage{
		"filesystem":  configuration.Parameters{"rootdirectory": c.root},
		"delete":      configuration.Parameters{"enabled": true}, // Nothing may be deleted even so.
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}}
	c.engine.Install(config)
	c.app = handlers.NewApp(context.Background(), config)
	c.server = c.serve(nil)
	c.client = pull.NewClient(c.server.URL, &http.Transport{MaxIdleConnsPerHost: 64})
}

// serve starts a server of the cache with the given changes.
func (c *cache) serve(change func(*http.Server)) *httptest.Server {
	api := pullthrough.API{}
	handler := api.ReadOnly(c.engine.Referrers(api, c.engine.Manifests(api, c.engine.Handler(c.app))))
	server := httptest.NewUnstartedServer(handler)
	c.engine.LimitClients(server.Config)
	if change != nil {
		change(server.Config)
	}
	server.Start()
	return server
}

func (c *cache) stop() {
	if c.server == nil {
		return
	}
	c.client.Close()
	c.server.Close()
	c.server = nil
	if err := c.app.Shutdown(); err != nil {
		c.t.Fatalf("stopping: %v", err)
	}
}

func (c *cache) restart(change func(*pullthrough.Options)) {
	c.stop()
	c.start(change)
}

func (c *cache) pull(name, reference string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := c.client.Image(ctx, name, reference)
	return err
}

// value returns the value of a counter or gauge, summed over the labels that are not given.
func (c *cache) value(name string, labels ...string) float64 {
	families, err := c.registry.Gather()
	Expect(err).NotTo(HaveOccurred())
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
