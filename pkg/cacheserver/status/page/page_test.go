// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/net/html"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/cacheserver/status/page"
	"github.com/larder-project/larder/pkg/credentials"
)

const (
	upstream = "registry.example.com"
	digest   = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
)

var now = time.Date(2026, time.March, 14, 15, 9, 26, 0, time.UTC)

// cache is a fake of all that a page shows.
type cache struct {
	report       status.Report
	misses       []event.Event
	repositories []event.Repository
	registry     *prometheus.Registry
	metrics      *metrics.Metrics
}

func (c *cache) Misses() []event.Event            { return c.misses }
func (c *cache) Repositories() []event.Repository { return c.repositories }

func newCache() *cache {
	registry := prometheus.NewRegistry()
	return &cache{
		report:   status.Report{Upstream: status.Upstream{Host: upstream, Reachable: true}},
		registry: registry, metrics: metrics.New(registry),
	}
}

func (c *cache) handler() http.Handler {
	return page.Handler(page.Options{
		Engine: c, Report: func() status.Report { return c.report }, Metrics: c.registry, MetricsPath: "/metrics",
		Version: "v1.2.3", Now: func() time.Time { return now },
	})
}

func (c *cache) respond(method string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	c.handler().ServeHTTP(recorder, httptest.NewRequest(method, page.Path, nil))
	return recorder
}

// render returns the page, which must be well formed.
func (c *cache) render() string {
	GinkgoHelper()
	response := c.respond(http.MethodGet)
	Expect(response).To(HaveHTTPStatus(http.StatusOK))
	content := response.Body.String()
	checkElements(content)
	return content
}

// checkElements checks that all elements are closed in order, and that none can run or load anything.
func checkElements(content string) {
	GinkgoHelper()
	void := map[string]bool{"meta": true}
	var open []string
	for tokens := html.NewTokenizer(strings.NewReader(content)); ; {
		kind := tokens.Next()
		token := tokens.Token()
		switch kind {
		case html.ErrorToken:
			Expect(open).To(BeEmpty())
			return
		case html.StartTagToken:
			Expect(token.Data).NotTo(BeElementOf("script", "img", "iframe", "link", "object", "form"))
			for _, attribute := range token.Attr {
				Expect(attribute.Key).NotTo(Or(HavePrefix("on"), Equal("src")))
				if attribute.Key == "href" {
					Expect(attribute.Val).To(BeElementOf("status", "health", "../metrics"))
				}
			}
			if !void[token.Data] {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			Expect(open).NotTo(BeEmpty())
			Expect(token.Data).To(Equal(open[len(open)-1]))
			open = open[:len(open)-1]
		}
	}
}

// busy is a cache with something in every place.
func busy() *cache {
	c := newCache()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	c.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "process_start_time_seconds"}, func() float64 {
		return float64(ago(75 * time.Hour).Unix())
	}))
	for i := range 200 {
		c.metrics.Served(metrics.Blob, 41<<20, i%8 != 0)
	}
	for outcome, requests := range map[event.Outcome]float64{
		event.Hit: 2895, event.Stale: 5, event.Miss: 90, event.Joined: 210, event.NotFound: 40, event.Failed: 3,
	} {
		c.metrics.Outcomes.WithLabelValues(metrics.Manifest, string(outcome)).Add(requests)
	}
	c.metrics.FillErrors.WithLabelValues("unavailable").Add(3)
	c.metrics.FillErrors.WithLabelValues("not_found").Add(40)
	c.metrics.StaleTags.WithLabelValues("unavailable").Add(2)
	c.metrics.RemovedBytes.WithLabelValues("evicted").Add(2 << 30)
	c.metrics.RemovedBytes.WithLabelValues("expired").Add(9 << 30)
	observer := c.metrics.Upstream(upstream)
	for i := range 100 {
		observer.Request("manifest", http.StatusOK, time.Duration(i)*2*time.Millisecond)
	}
	observer.Request("blob", 0, 3*time.Second)
	observer.Request("blob", http.StatusTooManyRequests, 20*time.Millisecond)
	observer.Credential("", metrics.Credential{Rejected: true, ActiveSince: ago(26 * time.Hour), PendingSince: ago(11 * time.Minute)})

	c.report = status.Report{
		Upstream: status.Upstream{
			Host: upstream, Since: ago(4 * time.Minute),
			Message:   "connect to registry.example.com: connection refused",
			RateLimit: &status.RateLimit{Scope: "team", Limit: 200, Remaining: 12},
		},
		Storage: status.Storage{
			Used: 37 << 30, Size: 100 << 30, Free: 8 << 30, Full: true, Bypassing: true, BypassedAt: ago(90 * time.Second),
		},
		Certificate: &status.Certificate{NotAfter: now.Add(77 * time.Hour)},
		Credentials: &credentials.Report{
			SecretName: "robot-v1", PendingSecretName: "robot-v2", State: credentials.StateRejected, Since: ago(11 * time.Minute),
			UpstreamStatusCode: http.StatusUnauthorized, Message: "upstream registry.example.com: rejected the credential (401)",
		},
	}
	c.misses = []event.Event{
		{Time: ago(20 * time.Second), Kind: "manifest", Method: "GET", Repository: "team/shop", Reference: "2.4.1", Node: "10.250.0.4", Outcome: event.Failed, Status: 503, Duration: 3200 * time.Millisecond, Cause: "unavailable: connection refused"},
		{Time: ago(50 * time.Second), Kind: "manifest", Method: "HEAD", Repository: "team/shop", Reference: "2.4.0", Digest: digest, Node: "10.250.0.9", Outcome: event.Stale, Status: 200, Duration: 12 * time.Millisecond, Cause: "unvalidated: unavailable"},
		{Time: ago(7 * time.Minute), Kind: "blob", Method: "GET", Repository: "team/shop", Reference: digest, Digest: digest, Node: "10.250.0.4", Outcome: event.Miss, Status: 200, Bytes: 82<<20 + 12345, Duration: 14800 * time.Millisecond, Cause: "new"},
		{Time: ago(7 * time.Minute), Kind: "blob", Method: "GET", Repository: "team/shop", Reference: digest, Digest: digest, Node: "10.250.0.7", Outcome: event.Joined, Status: 200, Bytes: 82<<20 + 12345, Duration: 13100 * time.Millisecond, Cause: "new"},
		{Time: ago(3 * time.Hour), Kind: "blob", Method: "GET", Repository: "library/postgres", Reference: digest, Digest: digest, Node: "10.250.0.7", Outcome: event.Bypassed, Status: 200, Bytes: 3 << 30, Duration: 700 * time.Second, Cause: "evicted"},
		{Time: ago(3 * time.Hour), Kind: "blob", Method: "GET", Repository: "library/postgres", Reference: digest, Node: "10.250.0.7", Outcome: event.Canceled, Status: 200, Bytes: 1 << 20, Duration: 900 * time.Microsecond, Cause: "client left"},
		{Time: ago(50 * time.Hour), Kind: "tags", Method: "GET", Repository: "team/none", Node: "2001:db8::17", Outcome: event.NotFound, Status: 404, Bytes: 90, Duration: 80 * time.Millisecond, Cause: "not_found"},
	}
	c.repositories = []event.Repository{
		{Name: "library/postgres", Requests: 640, Fetches: 24, PushedBytes: 91 << 30, PulledBytes: 5 << 30, FetchSeconds: 24 * 31},
		{Name: "team/shop", Requests: 12840, Fetches: 210, PushedBytes: 240 << 30, PulledBytes: 3 << 30, FetchSeconds: 210 * 2.5},
		{Name: "library/nginx", Requests: 900, PushedBytes: 20 << 20},
		{Name: "team/none", Requests: 3},
	}
	return c
}

var _ = Describe("Handler", func() {
	DescribeTable("renders a cache that is", func(name string, c *cache) {
		content := c.render()
		golden := filepath.Join("testdata", name+".html")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			Expect(os.WriteFile(golden, []byte(content), 0o600)).To(Succeed())
		}
		expected, err := os.ReadFile(golden)
		Expect(err).NotTo(HaveOccurred())
		Expect(content).To(Equal(string(expected)), "run make update-golden if the change is wanted")
	},
		Entry("busy", "busy", busy()),
		Entry("empty", "empty", newCache()),
	)

	It("forbids the browser to cache, load, run or send anything", func() {
		header := newCache().respond(http.MethodGet).Header()
		Expect(header.Get("Content-Type")).To(Equal("text/html; charset=utf-8"))
		Expect(header.Get("Cache-Control")).To(Equal("no-store"))
		Expect(header.Get("Content-Security-Policy")).To(HavePrefix("default-src 'none'; style-src 'unsafe-inline';"))
		Expect(header.Get("Referrer-Policy")).To(Equal("no-referrer"))
		Expect(header.Get("X-Content-Type-Options")).To(Equal("nosniff"))
	})

	It("responds to HEAD like to GET, without the body", func() {
		server := httptest.NewServer(newCache().handler())
		defer server.Close()
		head, err := http.Head(server.URL)
		Expect(err).NotTo(HaveOccurred())
		Expect(head.Body.Close()).To(Succeed())
		Expect(head).To(HaveHTTPStatus(http.StatusOK))
		Expect(head.ContentLength).To(BeEquivalentTo(len(newCache().render())))
	})

	It("reports an error instead of half a page", func() {
		c := newCache()
		handler := page.Handler(page.Options{
			Engine: c, Report: func() status.Report { return c.report }, Now: time.Now,
			Metrics: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, errors.New("secret detail") }),
		})
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, page.Path, nil))
		Expect(recorder).To(HaveHTTPStatus(http.StatusInternalServerError))
		Expect(recorder.Body.String()).NotTo(ContainSubstring("secret detail"))
	})

	It("renders every state", func() {
		states := []credentials.State{credentials.StateActive, credentials.StatePending, credentials.StateRejected, credentials.StateMissing, "Unheard"}
		outcomes := []event.Outcome{event.Hit, event.Miss, event.Joined, event.Stale, event.Bypassed, event.NotStored, event.Canceled, event.NotFound, event.Failed, "unheard"}
		for _, state := range states {
			for _, pending := range []string{"", "robot-v2"} {
				c := newCache()
				c.report = status.Report{Credentials: &credentials.Report{SecretName: "robot-v1", PendingSecretName: pending, State: state}}
				for _, outcome := range outcomes {
					c.misses = append(c.misses, event.Event{Outcome: outcome})
				}
				content := c.render()
				Expect(content).To(ContainSubstring("Secret <b>robot-v1</b>, active"))
				Expect(strings.Contains(content, "Secret <b>robot-v2</b>, candidate")).To(Equal(pending != ""))
			}
		}
	})

	It("escapes hostile names and keeps them in their place", func() {
		hostile := `"><script>alert(1)</script><b onclick='x'>{{.}}` + "\u202e\u2066\x00\xff\r\n\x1b[31m" + `javascript:`
		c := newCache()
		c.report = status.Report{
			Upstream:    status.Upstream{Host: hostile, Message: hostile},
			Credentials: &credentials.Report{SecretName: hostile, PendingSecretName: hostile, State: credentials.State(hostile), Message: hostile},
		}
		valid := strings.ToValidUTF8(hostile, "?") // Labels must be.
		c.report.Upstream.Host = valid
		c.report.Upstream.RateLimit = &status.RateLimit{Scope: hostile, Limit: 10, Remaining: 1}
		c.misses = []event.Event{{Time: now, Kind: hostile, Method: hostile, Repository: hostile, Reference: hostile, Digest: hostile, Node: hostile, Outcome: event.Outcome(hostile), Cause: hostile}}
		c.repositories = []event.Repository{{Name: hostile, PushedBytes: 1, Fetches: 1}}
		content := c.render() // It refuses scripts and handlers.
		Expect(content).NotTo(ContainSubstring("<script"))
		Expect(content).NotTo(ContainSubstring("\x1b"))
		Expect(content).NotTo(ContainSubstring("\u202e"))
		Expect(content).To(ContainSubstring("&lt;script&gt;"))
	})

	It("has a bounded size, whatever there is to show", func() {
		c := newCache()
		long := strings.Repeat("<é\x00", 1<<18)
		c.report = status.Report{
			Upstream:    status.Upstream{Host: long, Message: long, RateLimit: &status.RateLimit{Scope: long}},
			Credentials: &credentials.Report{SecretName: long, PendingSecretName: long, State: credentials.StateRejected, Message: long},
			Certificate: &status.Certificate{},
		}
		for range 5000 {
			c.misses = append(c.misses, event.Event{Kind: long, Method: long, Repository: long, Reference: long, Node: long, Outcome: event.Outcome(long), Cause: long})
			c.repositories = append(c.repositories, event.Repository{Name: long, Requests: 1 << 60, Fetches: 1, PushedBytes: 1 << 60, PulledBytes: 1 << 60})
		}
		Expect(len(c.render())).To(BeNumerically("<", 512<<10))
	})
})

var _ = Describe("Numbers", func() {
	tile := func(content, name string) string {
		GinkgoHelper()
		_, rest, found := strings.Cut(content, "<dt>"+name+`</dt><dd class="value">`)
		Expect(found).To(BeTrue(), name)
		value, _, _ := strings.Cut(rest, "</dd>")
		return html.UnescapeString(value)
	}

	It("say 100 % only if all requests were hits", func() {
		c := newCache()
		outcomes := func(outcome event.Outcome) prometheus.Counter {
			return c.metrics.Outcomes.WithLabelValues(metrics.Blob, string(outcome))
		}
		outcomes(event.Hit).Add(99_998)
		outcomes(event.Stale).Inc()
		outcomes(event.NotFound).Add(10_000) // They were not served.
		Expect(tile(c.render(), "Hit ratio")).To(Equal("100 %"))
		outcomes(event.Joined).Inc()
		Expect(tile(c.render(), "Hit ratio")).To(Equal("99.9 %"), "a request that joined a fetch was not served from the cache")
	})

	It("begin like the dashboard", func() {
		content := busy().render()
		for _, title := range status.FirstRow() {
			_, rest, found := strings.Cut(content, "<dt>"+title+"</dt>")
			Expect(found).To(BeTrue(), title)
			content = rest
		}
	})

	It("count failed fetches as the alert does", func() {
		c := newCache()
		for _, reason := range []string{"not_found", "unauthorized", "rate_limited", "canceled", "unavailable", "invalid"} {
			c.metrics.FillErrors.WithLabelValues(reason).Inc()
		}
		Expect(tile(c.render(), "Failed fetches")).To(Equal("2"))
	})

	It("come from metrics that exist", func() {
		source, err := os.ReadFile("figures.go")
		Expect(err).NotTo(HaveOccurred())
		families, err := busy().registry.Gather()
		Expect(err).NotTo(HaveOccurred())
		names := map[string]bool{}
		for _, family := range families {
			names[family.GetName()] = true
		}
		read := regexp.MustCompile(`"(registry_proxy_\w+)"`).FindAllSubmatch(source, -1)
		Expect(read).NotTo(BeEmpty())
		for _, name := range read {
			Expect(names).To(HaveKey(string(name[1])), "a metric that does not exist would be 0")
		}
	})

	DescribeTable("estimate the median of the upstream's latency as Prometheus does", func(expected string, latencies ...time.Duration) {
		c := newCache()
		for _, latency := range latencies {
			c.metrics.Upstream(upstream).Request("blob", http.StatusOK, latency)
		}
		Expect(tile(c.render(), "Upstream latency")).To(Equal(expected))
	},
		Entry("without requests", "–"),
		Entry("in the middle of the first bucket, up to 5 ms", "2 ms", time.Millisecond),
		Entry("in the middle of a bucket, from 20 to 80 ms", "50 ms", 30*time.Millisecond),
		Entry("at the end of the bucket below", "20 ms", 10*time.Millisecond, 30*time.Millisecond),
		Entry("past an empty bucket", "160 ms", time.Millisecond, 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond),
		Entry("at the last bound, if it is above", "20 s", time.Minute),
	)

	It("ignore the other upstreams of the process", func() {
		c := newCache()
		c.metrics.Upstream("other.example.com").Request("blob", http.StatusOK, time.Second)
		Expect(tile(c.render(), "Upstream latency")).To(Equal("–"))
	})
})

var _ = Describe("Problems", func() {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	// titles returns the titles in their order, with their levels.
	titles := func(c *cache) []string {
		GinkgoHelper()
		var found []string
		for _, match := range regexp.MustCompile(`<li class="(\w+)"><strong>(.*)\.</strong>`).FindAllStringSubmatch(c.render(), -1) {
			found = append(found, match[1]+": "+match[2])
		}
		return found
	}

	DescribeTable("are", func(change func(c *cache), expected ...string) {
		c := newCache()
		c.metrics.Upstream(upstream)
		change(c)
		Expect(titles(c)).To(HaveExactElements(expected))
	},
		Entry("none", func(*cache) {}),
		Entry("listed with the worst first", func(c *cache) {
			c.report.Storage = status.Storage{Full: true, Bypassing: true}
			c.report.Certificate = &status.Certificate{NotAfter: ago(time.Hour)}
			c.report.Upstream.RateLimit = &status.RateLimit{Limit: 100, Remaining: 5}
		}, "bad: The certificate expired 1 h ago", "warning: The rate limit of the upstream is nearly used up", "warning: The volume is full"),
		Entry("an unreachable upstream, but not the fetches that fail because of it", func(c *cache) {
			c.report.Upstream = status.Upstream{Host: upstream, Since: ago(time.Hour), Failing: true}
		}, "bad: The upstream has been unreachable for 1 h"),
		Entry("failing fetches", func(c *cache) {
			c.report.Upstream.Failing = true
		}, "warning: More than 5 fetches have failed within 15 min"),
		Entry("a rate limit that the upstream does not report", func(c *cache) {
			c.report.Upstream.RateLimitedAt = ago(14 * time.Minute)
		}, "warning: The rate limit of the upstream was exceeded"),
		Entry("a rate limit that is used up, once", func(c *cache) {
			c.report.Upstream.RateLimitedAt = ago(time.Minute)
			c.report.Upstream.RateLimit = &status.RateLimit{Limit: 100}
		}, "bad: The rate limit of the upstream is used up"),
		Entry("not a rate limit that was exceeded long ago, or in the future", func(c *cache) {
			c.report.Upstream.RateLimitedAt = ago(-time.Minute)
		}),
		Entry("content that is larger than the volume", func(c *cache) {
			c.report.Storage = status.Storage{Bypassing: true, BypassedAt: now}
		}, "warning: Some content is too large for the volume"),
		Entry("a fault of the disk", func(c *cache) {
			c.report.Storage = status.Storage{Full: true, Failing: true, FailedAt: now}
		}, "warning: The volume fails"),
		Entry("a candidate that is pending for long", func(c *cache) {
			c.report.Credentials = &credentials.Report{SecretName: "robot-v1", PendingSecretName: "robot-v2", State: credentials.StatePending}
			c.metrics.Upstream(upstream).Credential("", metrics.Credential{ActiveSince: ago(time.Hour), PendingSince: ago(31 * time.Minute)})
		}, "warning: The candidate has been pending for 31 min"),
		Entry("not a candidate that is pending for a moment", func(c *cache) {
			c.report.Credentials = &credentials.Report{SecretName: "robot-v1", PendingSecretName: "robot-v2", State: credentials.StatePending}
			c.metrics.Upstream(upstream).Credential("", metrics.Credential{ActiveSince: ago(time.Hour), PendingSince: ago(29 * time.Minute)})
		}),
		Entry("an active credential that is rejected before the candidate is accepted", func(c *cache) {
			c.report.Credentials = &credentials.Report{SecretName: "robot-v1", PendingSecretName: "robot-v2", State: credentials.StatePending}
			c.metrics.Upstream(upstream).Credential("", metrics.Credential{Rejected: true, PendingSince: ago(time.Minute)})
		}, "bad: The upstream rejects the active credential"),
		Entry("a candidate that is rejected", func(c *cache) {
			c.report.Credentials = &credentials.Report{SecretName: "robot-v1", PendingSecretName: "robot-v2", State: credentials.StateRejected}
		}, "warning: The upstream rejects the candidate"),
	)

	It("lie in the past even if the clock was set back", func() {
		c := newCache()
		c.report.Storage = status.Storage{Full: true, Bypassing: true, BypassedAt: now.Add(3 * time.Hour)}
		c.misses = []event.Event{{Time: now.Add(3 * time.Hour)}}
		Expect(c.render()).NotTo(ContainSubstring("in 3 h"))
	})
})
