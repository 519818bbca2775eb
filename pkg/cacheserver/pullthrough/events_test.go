// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	. "github.com/onsi/gomega/gstruct"
	"github.com/onsi/gomega/types"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/upstreamsim"
)

// eventLog is a log in JSON.
type eventLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *eventLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *eventLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// events returns the fields of the events. Each line has to be an object in JSON.
func (l *eventLog) events(g Gomega) (events []map[string]any) {
	for line := range strings.Lines(l.String()) {
		fields := map[string]any{}
		g.Expect(json.Unmarshal([]byte(line), &fields)).To(Succeed(), line)
		if fields["msg"] == event.Message {
			events = append(events, fields)
		}
	}
	return events
}

func (l *eventLog) last(g Gomega) map[string]any {
	events := l.events(g)
	g.Expect(events).NotTo(BeEmpty())
	return events[len(events)-1]
}

// pulls is a cache with its log, and an image with one layer of a mebibyte, pushed as v1.
type pulls struct {
	*enginetest.Cache
	log   *eventLog
	image upstreamsim.Image
	layer upstreamsim.Content
	disk  *enginetest.HonestDisk
	// ahead is how far the clock of the cache is ahead.
	ahead atomic.Int64
}

func newPulls(change func(*pullthrough.Options)) *pulls {
	p := &pulls{log: &eventLog{}, disk: &enginetest.HonestDisk{Total: 64 * mib}}
	p.disk.Left.Store(p.disk.Total)
	p.layer = upstreamsim.NewLayer(1, mib)
	p.image = upstreamsim.NewImage(p.layer)
	log := logrus.New()
	log.SetFormatter(&logrus.JSONFormatter{})
	log.SetOutput(p.log)
	p.Cache = enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
		o.Log, o.Disk, o.HighWatermark = log, p.disk, 1
		o.Now = func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }
		if change != nil {
			change(o)
		}
	})
	p.Upstream.Push(name, "v1", p.image)
	return p
}

// brokenDisk fails as a disk with a fault does, which is not full.
type brokenDisk struct {
	store.Disk
	failCreate, failSync bool
}

func breakDisk(broken *brokenDisk) func(*pullthrough.Options) {
	return func(o *pullthrough.Options) { broken.Disk, o.Disk = o.Disk, broken }
}

// Create implements store.Disk.
func (d *brokenDisk) Create(path string) (store.File, error) {
	if d.failCreate {
		return nil, unix.EIO
	}
	file, err := d.Disk.Create(path)
	return brokenFile{File: file, disk: d}, err
}

type brokenFile struct {
	store.File
	disk *brokenDisk
}

// Sync implements store.File.
func (f brokenFile) Sync() error {
	if f.disk.failSync {
		return unix.EIO
	}
	return f.File.Sync()
}

func (p *pulls) blob() string {
	return "/v2/" + name + "/blobs/" + p.layer.Descriptor().Digest.String()
}

var acceptAll = http.Header{"Accept": {imagev1.MediaTypeImageManifest, imagev1.MediaTypeImageIndex}}

func (p *pulls) get(ctx context.Context, path string) *http.Response {
	GinkgoHelper()
	response, _ := p.Get(ctx, path, acceptAll)
	return response
}

func (p *pulls) head(ctx context.Context, path string) {
	GinkgoHelper()
	response, err := p.Client.Do(ctx, http.MethodHead, path, acceptAll)
	Expect(err).NotTo(HaveOccurred())
	Expect(response.Body.Close()).To(Succeed())
}

// pull pulls an image and waits until it is stored: clients have a blob a moment earlier.
func (p *pulls) pull(tag string) {
	GinkgoHelper()
	Expect(p.Pull(name, tag)).To(Succeed())
	Eventually(func() float64 { return p.Value("active_transfers") }).Should(BeZero())
}

// abort reads a part of a blob and disconnects.
func (p *pulls) abort(ctx context.Context) {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Server.URL+p.blob(), http.NoBody)
	Expect(err).NotTo(HaveOccurred())
	response, err := http.DefaultClient.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	_, err = io.CopyN(io.Discard, response.Body, 1000)
	Expect(err).NotTo(HaveOccurred())
}

const (
	tagPath  = "/v2/" + name + "/manifests/v1"
	tagsPath = "/v2/" + name + "/tags/list"
)

var _ = Describe("Events", func() {
	enginetest.ExpectNoLeaks()

	// Each entry makes requests, of which the last is described by the expected fields.
	DescribeTable("say how a request was served, and why it was not a hit",
		func(ctx context.Context, change func(*pullthrough.Options), act func(context.Context, *pulls), outcome event.Outcome, cause any, fields Keys) {
			p := newPulls(change)
			act(ctx, p)
			if text, ok := cause.(string); ok {
				cause = Equal(text)
			}
			expected := Keys{"outcome": BeEquivalentTo(outcome), "cause": cause.(types.GomegaMatcher)}
			for key, value := range fields {
				expected[key] = value
			}
			Eventually(func(g Gomega) {
				g.Expect(p.log.last(g)).To(MatchKeys(IgnoreExtras, expected))
			}).Should(Succeed())
		},
		Entry("a tag that is new", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
		}, event.Miss, "new", Keys{
			"kind": Equal("manifest"), "method": Equal("GET"), "repository": Equal(name), "reference": Equal("v1"),
			"digest": HavePrefix("sha256:"), "node": Equal("127.0.0.1"), "status": BeEquivalentTo(200),
			"bytes": BeNumerically(">", 100), "milliseconds": BeNumerically(">", 0), "upstream": HavePrefix("127.0.0.1:"),
			"level": Equal("info"),
		}),
		Entry("a tag that was validated", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
			p.head(ctx, tagPath)
		}, event.Hit, "", Keys{"method": Equal("HEAD"), "bytes": BeEquivalentTo(0), "digest": HavePrefix("sha256:")}),
		Entry("a fresh tag, from memory", func(o *pullthrough.Options) { o.Freshness = time.Hour }, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
			p.get(ctx, tagPath)
		}, event.Hit, "", Keys{"digest": HavePrefix("sha256:"), "bytes": BeNumerically(">", 100)}),
		Entry("a tag that has moved", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
			p.Upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 100))
			p.get(ctx, tagPath)
		}, event.Miss, "moved", nil),
		Entry("a tag while the upstream fails", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
			p.Upstream.Misbehave(upstreamsim.Faults{Status: http.StatusTooManyRequests})
			p.get(ctx, tagPath)
		}, event.Stale, "unvalidated: rate_limited", Keys{"level": Equal("warning"), "status": BeEquivalentTo(200)}),
		Entry("a tag while the upstream is down", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
			p.Upstream.Refuse()
			for range 3 {
				p.get(ctx, tagPath)
			}
		}, event.Stale, "unvalidated: down", nil),
		Entry("a tag while the upstream is slow", func(o *pullthrough.Options) {
			o.ValidationTimeout = time.Millisecond
		}, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
			p.Upstream.Misbehave(upstreamsim.Faults{Hold: true})
			p.get(ctx, tagPath)
			p.Upstream.Misbehave(upstreamsim.Faults{})
		}, event.Stale, "unvalidated: slow", nil),
		Entry("a tag that does not exist", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, "/v2/"+name+"/manifests/unknown")
		}, event.NotFound, "not_found: status 404 MANIFEST_UNKNOWN", Keys{
			"status": BeEquivalentTo(404), "bytes": BeEquivalentTo(0), "digest": Equal(""), "level": Equal("info"),
		}),
		Entry("a tag that cannot be fetched", nil, func(ctx context.Context, p *pulls) {
			p.Upstream.Refuse()
			p.get(ctx, tagPath)
		}, event.Failed, ContainSubstring("unavailable: dial: "), Keys{"level": Equal("warning"), "status": BeEquivalentTo(503)}),
		Entry("an image of a type that the client does not accept", nil, func(ctx context.Context, p *pulls) {
			p.Get(ctx, tagPath, http.Header{"Accept": {"application/vnd.docker.distribution.manifest.v2+json"}})
		}, event.NotFound, "refused", nil),
		Entry("a manifest of another repository", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
			p.Upstream.Push("library/other", "v1", p.image)
			p.get(ctx, "/v2/library/other/manifests/"+p.image.Digest().String())
		}, event.Miss, "unproven", nil),
		Entry("a manifest that cannot be stored", nil, func(ctx context.Context, p *pulls) {
			p.disk.Left.Store(0)
			p.get(ctx, tagPath)
		}, event.Bypassed, "new", Keys{"level": Equal("warning")}),
		Entry("a manifest that a fault of the disk keeps from being stored", breakDisk(&brokenDisk{failCreate: true}), func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
		}, event.NotStored, "new", Keys{"level": Equal("warning")}),
		Entry("a blob that is new", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, p.blob())
		}, event.Miss, "new", Keys{"kind": Equal("blob"), "bytes": BeEquivalentTo(mib)}),
		Entry("the size of a blob that is not in the cache", nil, func(ctx context.Context, p *pulls) {
			p.head(ctx, p.blob())
		}, event.Miss, "new", Keys{"method": Equal("HEAD"), "bytes": BeEquivalentTo(0)}),
		Entry("a part of a blob", nil, func(ctx context.Context, p *pulls) {
			p.pull("v1")
			p.Get(ctx, p.blob(), http.Header{"Range": {"bytes=10-1009"}})
		}, event.Hit, "", Keys{"status": BeEquivalentTo(206), "bytes": BeEquivalentTo(1000)}),
		Entry("a part after the end of a blob", nil, func(ctx context.Context, p *pulls) {
			p.pull("v1")
			p.Get(ctx, p.blob(), http.Header{"Range": {"bytes=9999999-"}})
		}, event.Failed, "refused", Keys{"status": BeEquivalentTo(416), "bytes": BeEquivalentTo(0)}),
		Entry("a blob that another request fetches", nil, func(ctx context.Context, p *pulls) {
			p.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, Hold: true})
			var done sync.WaitGroup
			for range 2 {
				done.Go(func() {
					defer GinkgoRecover()
					p.get(ctx, p.blob())
				})
			}
			Eventually(func() int { return p.Upstream.Counters().Total(upstreamsim.BlobGet) }).Should(Equal(1))
			Expect(p.Value("active_transfers")).To(BeEquivalentTo(1))
			p.head(ctx, p.blob()) // The transfer has to be joined, which cannot be seen before it delivers.
			p.Upstream.Misbehave(upstreamsim.Faults{})
			done.Wait()
			Eventually(func() float64 { return p.Value("active_transfers") }).Should(BeZero())
			Eventually(func(g Gomega) {
				g.Expect(p.log.events(g)).To(ContainElements(HaveKeyWithValue("outcome", "miss"), HaveKeyWithValue("outcome", "joined")))
			}).Should(Succeed())
			p.get(ctx, p.blob())
		}, event.Hit, "", nil),
		Entry("a blob of another repository", nil, func(ctx context.Context, p *pulls) {
			p.pull("v1")
			p.Upstream.Push("library/other", "v1", p.image)
			p.get(ctx, strings.Replace(p.blob(), name, "library/other", 1))
		}, event.Hit, "unproven", nil),
		Entry("a blob that expired", func(o *pullthrough.Options) { o.TTL = 2 * time.Second }, func(ctx context.Context, p *pulls) {
			p.pull("v1")
			p.ahead.Store(int64(time.Hour))
			Eventually(func() bool { return p.Stored(p.layer.Descriptor().Digest) }).Should(BeFalse())
			p.get(ctx, p.blob())
		}, event.Miss, "expired", nil),
		Entry("a blob that was evicted", nil, func(ctx context.Context, p *pulls) {
			p.pull("v1")
			p.disk.Left.Store(mib)
			p.Upstream.Push(name, "v2", upstreamsim.RandomImage(3, 1, mib))
			p.pull("v2")
			Expect(p.Stored(p.layer.Descriptor().Digest)).To(BeFalse())
			p.disk.Left.Store(p.disk.Total)
			p.get(ctx, p.blob())
		}, event.Miss, "evicted", nil),
		Entry("a blob whose file is corrupt", nil, func(ctx context.Context, p *pulls) {
			p.pull("v1")
			Expect(os.WriteFile(p.BlobPath(p.layer.Descriptor().Digest), make([]byte, mib), 0o600)).To(Succeed())
			p.get(ctx, p.blob())
		}, event.Miss, "corrupt", nil),
		Entry("a blob that cannot be stored", nil, func(ctx context.Context, p *pulls) {
			p.disk.Left.Store(0)
			p.get(ctx, p.blob())
		}, event.Bypassed, "new", Keys{"bytes": BeEquivalentTo(mib), "level": Equal("warning")}),
		Entry("a blob that a fault of the disk keeps from being stored", breakDisk(&brokenDisk{failCreate: true}), func(ctx context.Context, p *pulls) {
			p.get(ctx, p.blob())
		}, event.NotStored, "new", Keys{"bytes": BeEquivalentTo(mib), "level": Equal("warning")}),
		Entry("a blob whose client leaves", nil, func(ctx context.Context, p *pulls) {
			p.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, PauseAfter: 100_000})
			p.abort(ctx)
			Eventually(func(g Gomega) { g.Expect(p.log.events(g)).NotTo(BeEmpty()) }).Should(Succeed())
			p.Upstream.Misbehave(upstreamsim.Faults{})
		}, event.Canceled, "client left", Keys{"status": BeEquivalentTo(200), "bytes": BeNumerically(">=", 1000)}),
		Entry("a blob whose client does not read it", func(o *pullthrough.Options) {
			o.ClientTimeout = 300 * time.Millisecond
		}, func(_ context.Context, p *pulls) {
			layer := upstreamsim.NewLayer(9, 24*mib) // More than sockets buffer.
			p.Upstream.Push(name, "large", upstreamsim.NewImage(layer))
			response, err := http.Get(p.Server.URL + "/v2/" + name + "/blobs/" + layer.Descriptor().Digest.String())
			Expect(err).NotTo(HaveOccurred())
			defer response.Body.Close()
			Eventually(func(g Gomega) { g.Expect(p.log.events(g)).NotTo(BeEmpty()) }).Should(Succeed())
		}, event.Canceled, "client too slow", Keys{"bytes": BeNumerically("<", 24*mib)}),
		Entry("a blob that breaks off", func(o *pullthrough.Options) { o.Retries = 0 }, func(_ context.Context, p *pulls) {
			p.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, CutAfter: 100_000})
			response, err := http.Get(p.Server.URL + p.blob())
			Expect(err).NotTo(HaveOccurred())
			defer response.Body.Close()
			_, err = io.Copy(io.Discard, response.Body)
			Expect(err).To(HaveOccurred())
		}, event.Failed, "unavailable: broke off its response", Keys{"status": BeEquivalentTo(200), "bytes": BeNumerically(">", 0)}),
		Entry("a list of tags", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagsPath)
		}, event.Miss, "list", Keys{"kind": Equal("tags"), "reference": Equal(""), "bytes": BeNumerically(">", 10)}),
		Entry("a list of tags while the upstream fails", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagsPath)
			p.Upstream.Misbehave(upstreamsim.Faults{Status: http.StatusServiceUnavailable})
			p.get(ctx, tagsPath)
		}, event.Stale, "unvalidated: unavailable", nil),
		Entry("a list of referrers", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, "/v2/"+name+"/referrers/"+p.image.Digest().String()+"?artifactType=a/b")
		}, event.Miss, "list", Keys{"kind": Equal("referrers"), "reference": HavePrefix("sha256:"), "digest": Equal("")}),
		Entry("a list of referrers while the upstream is down", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, tagPath)
			path := "/v2/" + name + "/referrers/" + p.image.Digest().String()
			p.get(ctx, path)
			p.Upstream.Refuse()
			for range 3 {
				p.get(ctx, path+"?artifactType=a/b")
			}
		}, event.Stale, "unvalidated: down", nil),
		Entry("a list of referrers of an upstream without any", nil, func(ctx context.Context, p *pulls) {
			p.Upstream.Misbehave(upstreamsim.Faults{Status: http.StatusMethodNotAllowed})
			p.get(ctx, "/v2/"+name+"/referrers/"+p.image.Digest().String())
		}, event.NotFound, ContainSubstring("does not list referrers"), nil),
		Entry("an invalid name", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, "/v2/UPPER/manifests/v1")
		}, event.NotFound, "refused", Keys{"status": BeEquivalentTo(404), "repository": Equal("UPPER")}),
		Entry("a name that is too long", nil, func(ctx context.Context, p *pulls) {
			p.get(ctx, "/v2/"+strings.Repeat("a", 300)+"/manifests/v1")
		}, event.Failed, "refused", Keys{"status": BeNumerically(">=", 400), "repository": HaveSuffix("a…")}),
	)

	It("have one line each", func(ctx context.Context) {
		p := newPulls(nil)
		p.pull("v1")
		p.get(ctx, tagsPath)
		p.get(ctx, "/v2/")
		Eventually(func(g Gomega) {
			g.Expect(p.log.events(g)).To(HaveLen(5), "the manifest twice, its configuration, its layer and the tags")
		}).Should(Succeed())
		Expect(strings.Count(p.log.String(), "\n")).To(Equal(5))
	})

	It("escape and shorten what clients choose", func(ctx context.Context) {
		p := newPulls(nil)
		hostile := "a\"\n\x1b[2J\u2028{}" + strings.Repeat("é", 5000)
		for _, path := range []string{
			"/v2/" + url.PathEscape(hostile) + "/manifests/" + url.PathEscape(hostile),
			"/v2/a%FF%00b/blobs/" + url.PathEscape(hostile),
			"/v2/" + url.PathEscape(hostile) + "/referrers/x",
		} {
			p.get(ctx, path)
		}
		Eventually(func(g Gomega) { g.Expect(p.log.events(g)).To(HaveLen(3)) }).Should(Succeed())
		for _, fields := range p.log.events(Default) {
			Expect(len(fields["repository"].(string))).To(BeNumerically("<=", event.MaxRepository))
			Expect(len(fields["reference"].(string))).To(BeNumerically("<=", event.MaxReference))
		}
		for line := range strings.Lines(p.log.String()) {
			Expect(len(line)).To(BeNumerically("<", 2000))
		}
		Expect(p.Engine.Repositories()).To(BeEmpty(), "clients could displace the real ones")
	})

	It("contain no secret", func(ctx context.Context) {
		const canary = "canary-of-the-tests"
		log := &eventLog{}
		logger := logrus.New()
		logger.SetFormatter(&logrus.JSONFormatter{})
		logger.SetLevel(logrus.DebugLevel)
		logger.SetOutput(log)
		c := enginetest.New(GinkgoT(), upstreamsim.Options{
			Authentication: upstreamsim.Bearer, Username: "robot", Password: canary,
		}, func(o *pullthrough.Options) {
			o.Credential, o.Log = credentials.Credential{Username: "robot", Password: canary}, logger
		})
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 1000))
		header := http.Header{"Authorization": {"Bearer " + canary}, "User-Agent": {canary}, "Cookie": {canary}}
		path := tagPath + "?token=" + canary
		c.Get(ctx, path, header)
		c.Upstream.SetCredential("robot", "another")
		c.Upstream.RevokeTokens()
		c.Get(ctx, "/v2/"+name+"/manifests/v2?ns="+canary, header)
		c.Get(ctx, path, header)
		c.Upstream.Refuse()
		c.Get(ctx, "/v2/"+name+"/manifests/v3?ns="+canary, header)
		Eventually(func(g Gomega) { g.Expect(log.events(g)).To(HaveLen(4)) }).Should(Succeed())
		Expect(log.String()).NotTo(Or(ContainSubstring(canary), ContainSubstring("token="), ContainSubstring(upstreamsim.TokenPrefix)))
		for _, miss := range c.Engine.Misses() {
			Expect(miss.Cause).NotTo(ContainSubstring(canary))
		}
	})

	It("are remembered, the newest first, up to a bound, unless they are hits", func(ctx context.Context) {
		p := newPulls(nil)
		p.pull("v1")
		p.pull("v1")
		p.get(ctx, tagsPath)
		Eventually(func(g Gomega) { g.Expect(p.log.events(g)).To(HaveLen(9)) }).Should(Succeed())
		Expect(p.Engine.Misses()).To(HaveLen(3))
		for range 60 {
			p.get(ctx, "/v2/UPPER/manifests/v1")
		}
		p.get(ctx, "/v2/UPPER/manifests/last")
		Eventually(func() string { return p.Engine.Misses()[0].Reference }).Should(Equal("last"))
		Expect(p.Engine.Misses()).To(HaveLen(50))
	})
})

var _ = Describe("Status", func() {
	It("reports the upstream, its rate limit and the storage", func(ctx context.Context) {
		p := newPulls(func(o *pullthrough.Options) { o.Timeouts = remote.DefaultTimeouts })
		limits := map[string]string{"RateLimit-Limit": "100;w=60", "RateLimit-Remaining": "7;w=60"}
		p.Upstream.Wrap(func(registry http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for name, value := range limits {
					w.Header().Set(name, value)
				}
				registry.ServeHTTP(w, r)
			})
		})
		p.pull("v1")
		report := p.Engine.Status()
		Expect(report.Upstream).To(MatchFields(IgnoreExtras, Fields{
			"Host": Equal(p.Upstream.Host()), "Reachable": BeTrue(), "Since": BeZero(), "Message": BeEmpty(),
			"RateLimit": PointTo(MatchAllFields(Fields{"Scope": BeEmpty(), "Limit": BeEquivalentTo(100), "Remaining": BeEquivalentTo(7)})),
		}))
		Expect(report.Storage.Size).To(Equal(p.disk.Total))
		Expect(report.Storage.Free).To(And(BeNumerically(">", 0), BeNumerically("<", p.disk.Total)))
		Eventually(func() int64 { return p.Engine.Status().Storage.Used }).Should(BeNumerically(">=", mib))
		Expect(report.Storage.Bypassing).To(BeFalse())
		Expect(report.Storage.Full).To(BeFalse())
		Expect(p.Value("bypassed_at_seconds")).To(BeZero())

		p.Upstream.Refuse()
		p.get(ctx, "/v2/"+name+"/manifests/other")
		p.get(ctx, "/v2/library/other/manifests/other")
		report = p.Engine.Status()
		Expect(report.Upstream.Reachable).To(BeFalse())
		Expect(report.Upstream.Since).To(BeTemporally("~", time.Now(), time.Minute))
		Expect(report.Upstream.Message).To(ContainSubstring("dial"))
		Expect(p.Upstream.Accept()).To(Succeed())
		p.get(ctx, "/v2/"+name+"/manifests/other")
		report = p.Engine.Status()
		Expect(report.Upstream.Reachable).To(BeTrue())
		Expect(report.Upstream.Message).To(BeEmpty())

		p.disk.Left.Store(0)
		p.Upstream.Push(name, "v2", upstreamsim.RandomImage(5, 1, 1000))
		p.pull("v2")
		Eventually(func() bool { return p.Engine.Status().Storage.Bypassing }).Should(BeTrue())
		Expect(p.Value("bypassed_at_seconds")).To(BeNumerically("~", time.Now().Unix(), 60))
		Expect(p.Engine.Status().Storage.Full).To(BeTrue())
		p.ahead.Store(int64(11 * time.Minute))
		Expect(p.Engine.Status().Storage.Bypassing).To(BeFalse())
		p.ahead.Store(int64(-time.Hour))
		Expect(p.Engine.Status().Storage.Bypassing).To(BeFalse(), "the clock was set back")
	})

	It("validates a tag again after the clock was set back", func(ctx context.Context) {
		p := newPulls(func(o *pullthrough.Options) { o.Freshness = time.Hour })
		p.pull("v1")
		p.get(ctx, tagPath)
		before := p.Upstream.Counters().Total(upstreamsim.ManifestHead)
		p.get(ctx, tagPath)
		Expect(p.Upstream.Counters().Total(upstreamsim.ManifestHead)).To(Equal(before))
		p.ahead.Store(int64(-2 * time.Hour))
		p.get(ctx, tagPath)
		Expect(p.Upstream.Counters().Total(upstreamsim.ManifestHead)).To(Equal(before + 1))
	})

	It("reports content that is too large for a volume that is not full", func() {
		p := newPulls(nil)
		p.disk.Total = 8 * mib
		p.disk.Left.Store(p.disk.Total)
		p.Upstream.Push(name, "large", upstreamsim.RandomImage(7, 1, 9*mib))
		p.pull("large")
		Eventually(func() status.Storage { return p.Engine.Status().Storage }).Should(And(
			HaveField("Bypassing", true), HaveField("Full", false), HaveField("Failing", false),
		))
	})

	It("reports a disk that takes a blob but fails to store it", func() {
		p := newPulls(breakDisk(&brokenDisk{failSync: true}))
		p.pull("v1")
		Eventually(func() status.Storage { return p.Engine.Status().Storage }).Should(And(
			HaveField("Failing", true), HaveField("FailedAt", BeTemporally("~", time.Now(), time.Minute)),
			HaveField("Bypassing", false), HaveField("BypassedAt", BeZero()),
		))
		Expect(p.Value("store_errors_total")).To(BeEquivalentTo(p.image.Objects()))
		Expect(p.Value("unstored_total")).To(BeZero())
	})

	It("counts what is sent and fetched for each repository", func() {
		p := newPulls(nil)
		for range 3 {
			p.pull("v1")
		}
		Eventually(func(g Gomega) {
			g.Expect(p.Engine.Repositories()).To(ConsistOf(MatchFields(IgnoreExtras, Fields{
				"Name": Equal(name), "Fetches": BeEquivalentTo(3), "PulledBytes": Equal(p.image.Size()),
				"PushedBytes": BeNumerically(">=", 3*mib), "Requests": BeEquivalentTo(12), "FetchSeconds": BeNumerically(">", 0),
			})))
		}).Should(Succeed())
		Expect(p.Value("repository_pulled_bytes_total", "repository", name)).To(BeEquivalentTo(p.image.Size()))
		Expect(p.Value("repository_fetches_total", "repository", name)).To(BeEquivalentTo(3))
	})
})
