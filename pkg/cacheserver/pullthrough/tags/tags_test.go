// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package tags_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/upstreamsim"
)

const name = enginetest.Name

var _ = Describe("Tags", func() {
	It("are validated for each request, or not at all within the freshness window", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		first, err := c.Client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 100))
		second, err := c.Client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(second).NotTo(Equal(first))

		c.Restart(func(o *pullthrough.Options) { o.Freshness = time.Hour })
		Expect(c.Client.Head(ctx, name, "v1")).To(Equal(second))
		c.Upstream.ResetCounters()
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(3, 1, 100))
		Expect(c.Client.Head(ctx, name, "v1")).To(Equal(second))
		Expect(c.Upstream.Counters().Total()).To(BeZero())
	})

	It("are gone once the upstream has removed them, while the image stays", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		c.Upstream.Push(name, "v1", image)
		Expect(c.Pull(name, "v1")).To(Succeed())
		c.Upstream.DeleteTag(name, "v1")
		_, err := c.Client.Head(ctx, name, "v1")
		Expect(err).To(HaveOccurred())
		Expect(c.Pull(name, image.Digest().String())).To(Succeed())
	})

	It("lead to the new image at once if the upstream is slow but steady, and are logged when they are stale", func(ctx context.Context) {
		log, logged := logrus.New(), gbytes.NewBuffer()
		log.SetOutput(logged)
		c := enginetest.New(GinkgoT(), upstreamsim.Options{Latency: 300 * time.Millisecond}, func(o *pullthrough.Options) {
			o.ValidationTimeout, o.SuspectTimeout, o.Log = 10*time.Second, 100*time.Millisecond, log
		})
		images := make([]upstreamsim.Image, 3)
		for i := range images {
			images[i] = upstreamsim.RandomImage(uint64(i), 1, 100)
		}
		head := func(expected upstreamsim.Image) {
			GinkgoHelper()
			Expect(c.Client.Head(ctx, name, "v1")).To(Equal(expected.Digest()))
		}
		c.Upstream.Push(name, "v1", images[0])
		head(images[0])
		c.Upstream.Push(name, "v1", images[1])
		head(images[1])
		Expect(logged).To(gbytes.Say("Tag moved.*before=\"" + images[0].Digest().String() + "\".*digest=\"" + images[1].Digest().String()))

		By("suspecting the upstream after a restart, until its first response")
		c.Restart(func(o *pullthrough.Options) {
			o.ValidationTimeout, o.SuspectTimeout, o.Log = 10*time.Second, 100*time.Millisecond, log
		})
		c.Upstream.Push(name, "v1", images[2])
		head(images[1])
		Expect(logged).To(gbytes.Say(`msg=Pull .*cause="unvalidated: slow" digest="` + images[1].Digest().String() + `".*outcome=stale reference=v1 repository=` + name))
		Eventually(logged).Should(gbytes.Say("Tag moved.*digest=\"" + images[2].Digest().String()))
		head(images[2])
	}, SpecTimeout(20*time.Second))

	It("are served without a wait and a log line if validation is disabled", func(ctx context.Context) {
		log, logged := logrus.New(), gbytes.NewBuffer()
		log.SetOutput(logged)
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.ValidationTimeout, o.Log = 0, log })
		image := upstreamsim.RandomImage(1, 1, 100)
		c.Upstream.Push(name, "v1", image)
		Expect(c.Client.Head(ctx, name, "v1")).To(Equal(image.Digest()))
		c.Upstream.Misbehave(upstreamsim.Faults{Hang: true})
		Expect(c.Client.Head(ctx, name, "v1")).To(Equal(image.Digest()))
		Expect(logged.Contents()).NotTo(ContainSubstring("stale"))
		c.Upstream.Misbehave(upstreamsim.Faults{})
	}, SpecTimeout(20*time.Second))

	It("are served at once in an outage, and follow the upstream soon after it", func(ctx context.Context) {
		var later atomic.Int64
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.ValidationTimeout = time.Hour
			o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		})
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		first, err := c.Client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		c.Upstream.Refuse()
		for range 10 {
			_, err := c.Client.Head(ctx, name, "never-seen")
			Expect(err).To(HaveOccurred())
		}
		Expect(c.Value("upstream_up")).To(BeZero())

		By("not waiting for the probe")
		c.Upstream.Misbehave(upstreamsim.Faults{Hang: true})
		Expect(c.Upstream.Accept()).To(Succeed())
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 100))
		later.Store(int64(time.Second))
		Expect(c.Client.Head(ctx, name, "v1")).To(Equal(first))

		By("probing again")
		c.Upstream.Misbehave(upstreamsim.Faults{})
		later.Store(int64(4 * time.Second))
		Eventually(ctx, func() (digest.Digest, error) { return c.Client.Head(ctx, name, "v1") }).ShouldNot(Equal(first))
		Expect(c.Value("upstream_up")).To(BeEquivalentTo(1))
	}, SpecTimeout(2*time.Minute))

	It("do not move back when a slow move ends after a later one", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		slow, latest := upstreamsim.RandomImage(2, 1, 100), upstreamsim.RandomImage(3, 1, 100)
		asked, released := make(chan struct{}), make(chan struct{})
		release := sync.OnceFunc(func() { close(released) })
		remote, err := url.Parse(c.Upstream.URL())
		Expect(err).NotTo(HaveOccurred())
		direct := httputil.NewSingleHostReverseProxy(remote)
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, slow.Digest().String()) {
				close(asked)
				<-released
			}
			direct.ServeHTTP(w, r)
		}))
		DeferCleanup(proxy.Close)
		DeferCleanup(release)
		c.Restart(func(o *pullthrough.Options) { o.RemoteURL = proxy.URL })
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		_, err = c.Client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())

		c.Upstream.Push(name, "v1", slow)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			defer GinkgoRecover()
			Expect(c.Client.Head(ctx, name, "v1")).To(Equal(slow.Digest()), "the tag led there when it was resolved")
		})
		Eventually(ctx, asked).Should(BeClosed())
		c.Upstream.Push(name, "v1", latest)
		Expect(c.Client.Head(ctx, name, "v1")).To(Equal(latest.Digest()))
		release()
		waiting.Wait()
		c.Upstream.Refuse()
		Expect(c.Client.Head(ctx, name, "v1")).To(Equal(latest.Digest()))
	}, SpecTimeout(2*time.Minute))

	It("stay where they are if the new image cannot be fetched", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		first, err := c.Client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 100))
		c.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.ManifestGet}, Status: http.StatusInternalServerError})
		Expect(c.Client.Head(ctx, name, "v1")).To(Equal(first))
		Expect(c.Value("stale_tags_total", "reason", "unavailable")).To(BeEquivalentTo(1))
	})
})
