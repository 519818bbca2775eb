// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"io"
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
	"github.com/larder-project/larder/test/upstreamsim"
)

// unsized is a proxy that takes the Content-Length from all answers.
func unsized(target string) *httptest.Server {
	remote, err := url.Parse(target)
	Expect(err).NotTo(HaveOccurred())
	proxy := httputil.NewSingleHostReverseProxy(remote)
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(r *http.Response) error {
		r.Header.Del("Content-Length")
		r.ContentLength = -1
		return nil
	}
	return httptest.NewServer(proxy)
}

var _ = Describe("Tags", func() {
	It("are validated each time, or within a window not at all", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		first, err := c.client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 100))
		second, err := c.client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(second).NotTo(Equal(first))

		c.restart(func(o *pullthrough.Options) { o.Freshness = time.Hour })
		Expect(c.client.Head(ctx, name, "v1")).To(Equal(second))
		c.upstream.ResetCounters()
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(3, 1, 100))
		Expect(c.client.Head(ctx, name, "v1")).To(Equal(second))
		Expect(c.upstream.Counters().Total()).To(BeZero())
	})

	It("are gone when the upstream says so, while the image stays", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		c.upstream.Push(name, "v1", image)
		Expect(c.pull(name, "v1")).To(Succeed())
		c.upstream.DeleteTag(name, "v1")
		_, err := c.client.Head(ctx, name, "v1")
		Expect(err).To(HaveOccurred())
		Expect(c.pull(name, image.Digest().String())).To(Succeed())
	})

	It("lead to the new image at once when the upstream is slow, and leave a trace when they do not", func(ctx context.Context) {
		log, logged := logrus.New(), gbytes.NewBuffer()
		log.SetOutput(logged)
		c := newCache(GinkgoT(), upstreamsim.Options{Latency: 300 * time.Millisecond}, func(o *pullthrough.Options) {
			o.ValidationTimeout, o.SuspectTimeout, o.Log = 10*time.Second, 100*time.Millisecond, log
		})
		images := make([]upstreamsim.Image, 3)
		for i := range images {
			images[i] = upstreamsim.RandomImage(uint64(i), 1, 100)
		}
		head := func(expected upstreamsim.Image) {
			GinkgoHelper()
			Expect(c.client.Head(ctx, name, "v1")).To(Equal(expected.Digest()))
		}
		c.upstream.Push(name, "v1", images[0])
		head(images[0])
		c.upstream.Push(name, "v1", images[1])
		head(images[1])
		Expect(logged).To(gbytes.Say("A tag has moved.*before=\"" + images[0].Digest().String() + "\".*digest=\"" + images[1].Digest().String()))

		By("being in doubt after a restart, and learning from the first answer")
		c.restart(func(o *pullthrough.Options) {
			o.ValidationTimeout, o.SuspectTimeout, o.Log = 10*time.Second, 100*time.Millisecond, log
		})
		c.upstream.Push(name, "v1", images[2])
		head(images[1])
		Expect(logged).To(gbytes.Say("Served a tag from the cache, unvalidated.*digest=\"" + images[1].Digest().String() + "\".*reason=slow.*repository=" + name + " tag=v1"))
		Eventually(logged).Should(gbytes.Say("A tag has moved.*digest=\"" + images[2].Digest().String()))
		head(images[2])
	}, SpecTimeout(20*time.Second))

	It("are not waited for when they should not be, without a word", func(ctx context.Context) {
		log, logged := logrus.New(), gbytes.NewBuffer()
		log.SetOutput(logged)
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.ValidationTimeout, o.Log = 0, log })
		image := upstreamsim.RandomImage(1, 1, 100)
		c.upstream.Push(name, "v1", image)
		Expect(c.client.Head(ctx, name, "v1")).To(Equal(image.Digest()))
		c.upstream.Misbehave(upstreamsim.Faults{Hang: true})
		Expect(c.client.Head(ctx, name, "v1")).To(Equal(image.Digest()))
		Expect(logged.Contents()).NotTo(ContainSubstring("unvalidated"))
		c.upstream.Misbehave(upstreamsim.Faults{})
	}, SpecTimeout(20*time.Second))

	It("are served at once in an outage, and soon follow the upstream after it", func(ctx context.Context) {
		var later atomic.Int64
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.ValidationTimeout = time.Hour
			o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		})
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		first, err := c.client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		c.upstream.Refuse()
		for range 10 {
			_, err := c.client.Head(ctx, name, "never-seen")
			Expect(err).To(HaveOccurred())
		}
		Expect(c.value("upstream_up")).To(BeZero())

		By("not waiting for the answer to a question that may show its end")
		c.upstream.Misbehave(upstreamsim.Faults{Hang: true})
		Expect(c.upstream.Accept()).To(Succeed())
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 100))
		later.Store(int64(time.Second))
		Expect(c.client.Head(ctx, name, "v1")).To(Equal(first))

		By("asking again")
		c.upstream.Misbehave(upstreamsim.Faults{})
		later.Store(int64(4 * time.Second))
		Eventually(ctx, func() (digest.Digest, error) { return c.client.Head(ctx, name, "v1") }).ShouldNot(Equal(first))
		Expect(c.value("upstream_up")).To(BeEquivalentTo(1))
	}, SpecTimeout(2*time.Minute))

	It("do not go back when a slower move ends after a later one", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		slow, latest := upstreamsim.RandomImage(2, 1, 100), upstreamsim.RandomImage(3, 1, 100)
		asked, released := make(chan struct{}), make(chan struct{})
		release := sync.OnceFunc(func() { close(released) })
		remote, err := url.Parse(c.upstream.URL())
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
		c.restart(func(o *pullthrough.Options) { o.RemoteURL = proxy.URL })
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		_, err = c.client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())

		c.upstream.Push(name, "v1", slow)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			defer GinkgoRecover()
			Expect(c.client.Head(ctx, name, "v1")).To(Equal(slow.Digest()), "as the upstream said when it was asked")
		})
		Eventually(ctx, asked).Should(BeClosed())
		c.upstream.Push(name, "v1", latest)
		Expect(c.client.Head(ctx, name, "v1")).To(Equal(latest.Digest()))
		release()
		waiting.Wait()
		c.upstream.Refuse()
		Expect(c.client.Head(ctx, name, "v1")).To(Equal(latest.Digest()))
	}, SpecTimeout(2*time.Minute))

	It("stay where they were when the new image cannot be had", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 100))
		first, err := c.client.Head(ctx, name, "v1")
		Expect(err).NotTo(HaveOccurred())
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 100))
		c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.ManifestGet}, Status: http.StatusInternalServerError})
		Expect(c.client.Head(ctx, name, "v1")).To(Equal(first))
		Expect(c.value("stale_tags_total", "reason", "unavailable")).To(BeEquivalentTo(1))
	})
})

var _ = DescribeTable("Manifests are negotiated as by Distribution", func(accept []string, list bool, status int, mediaType string) {
	c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
	image := upstreamsim.RandomImage(1, 1, 100)
	c.upstream.Push(name, "v1", image)
	if list {
		c.upstream.PushManifest(name, "v1", upstreamsim.NewIndex(image))
	}
	request, err := http.NewRequest(http.MethodGet, c.server.URL+"/v2/"+name+"/manifests/v1", nil)
	Expect(err).NotTo(HaveOccurred())
	request.Header["Accept"] = accept
	response, err := http.DefaultClient.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	Expect(response.StatusCode).To(Equal(status))
	if status == http.StatusOK {
		Expect(response.Header.Get("Content-Type")).To(Equal(mediaType))
	}
},
	Entry("accepted", []string{"application/vnd.oci.image.manifest.v1+json"}, false, http.StatusOK, "application/vnd.oci.image.manifest.v1+json"),
	Entry("accepted among others", []string{"a/b", "text/html, application/vnd.oci.image.index.v1+json;q=0.5"}, true, http.StatusOK, "application/vnd.oci.image.index.v1+json"),
	Entry("anything", []string{"*/*"}, false, http.StatusOK, "application/vnd.oci.image.manifest.v1+json"),
	Entry("nothing said", nil, true, http.StatusOK, "application/vnd.oci.image.index.v1+json"),
	Entry("not accepted", []string{"application/vnd.docker.distribution.manifest.v2+json"}, false, http.StatusNotFound, ""),
)
