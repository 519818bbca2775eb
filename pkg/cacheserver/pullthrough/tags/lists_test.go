// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package tags_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("Lists of tags", func() {
	enginetest.ExpectNoLeaks()

	It("lists tags page by page", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		for i := range 5 {
			c.Upstream.Push(name, fmt.Sprintf("v%d", i), image)
		}
		_, body := c.Get(ctx, "/v2/"+name+"/tags/list", http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v0","v1","v2","v3","v4"]}`))
		response, body := c.Get(ctx, "/v2/"+name+"/tags/list?n=2&last=v1", http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v2","v3"]}`))
		Expect(response.Header.Get("Link")).To(ContainSubstring("last=v3"))
		response, _ = c.Get(ctx, "/v2/library/none/tags/list", http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))

		subject := image.Manifest.Descriptor()
		artifact := upstreamsim.NewArtifact("application/vnd.example", subject)
		c.Upstream.Push(name, "", artifact)
		response, body = c.Get(ctx, "/v2/"+name+"/referrers/"+subject.Digest.String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		Expect(response.Header.Get("Content-Type")).To(Equal("application/vnd.oci.image.index.v1+json"))
		Expect(string(body)).To(ContainSubstring(artifact.Digest().String()))

	})

	It("lists tags in an outage from the last complete list only", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		for i := range 5 {
			c.Upstream.Push(name, fmt.Sprintf("v%d", i), image)
		}
		Expect(c.Pull(name, "v1")).To(Succeed())
		tags := "/v2/" + name + "/tags/list"
		c.Get(ctx, tags+"?n=2", http.Header{})
		c.Upstream.Refuse()
		for _, query := range []string{"", "?n=2", "?n=2&last=v1"} {
			response, body := c.Get(ctx, tags+query, http.Header{})
			Expect(response.StatusCode).To(Equal(http.StatusServiceUnavailable), "%s: %s", query, body)
			Expect(string(body)).To(ContainSubstring(strings.TrimPrefix(c.Upstream.URL(), "http://")))
		}

		Expect(c.Upstream.Accept()).To(Succeed())
		c.Get(ctx, tags, http.Header{})
		c.Upstream.Refuse()
		_, body := c.Get(ctx, tags, http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v0","v1","v2","v3","v4"]}`))
		response, body := c.Get(ctx, tags+"?n=2&last=v1", http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v2","v3"]}`))
		Expect(response.Header.Get("Link")).To(ContainSubstring("last=v3"))
	})

	DescribeTable("fetches all tags when the upstream refuses the query", func(ctx context.Context, query string, status int, expected string) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		for i := range 5 {
			c.Upstream.Push(name, fmt.Sprintf("v%d", i), image)
		}
		c.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.Tags}, Times: 1, Status: status})
		response, body := c.Get(ctx, "/v2/"+name+"/tags/list"+query, http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		Expect(body).To(MatchJSON(expected))
		Expect(c.Upstream.Counters().Total(upstreamsim.Tags)).To(Equal(2))
	},
		Entry("since the last tag is gone", "?n=2&last=v1a", http.StatusNotFound, `{"name":"library/app","tags":["v2","v3"]}`),
		Entry("since the number is too large", "?n=10000", http.StatusBadRequest, `{"name":"library/app","tags":["v0","v1","v2","v3","v4"]}`),
	)

	It("asks once for an unknown repository", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		response, _ := c.Get(ctx, "/v2/library/none/tags/list?n=2", http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
		Expect(c.Upstream.Counters().Total(upstreamsim.Tags)).To(Equal(1))
	})

	It("lists no more tags than requested, whatever the upstream sends", func(ctx context.Context) {
		lavish := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"name":"library/app","tags":["v0","v1","v2"]}`)
		}))
		defer lavish.Close()
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.RemoteURL = lavish.URL })
		response, body := c.Get(ctx, "/v2/"+name+"/tags/list?n=1", http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v0"]}`))
		Expect(response.Header.Get("Link")).To(ContainSubstring("last=v0"))
	})

	It("fetches one complete list for all clients that want parts of it, and stops when they have left", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{PageSize: 1, PageTokens: true, Latency: 20 * time.Millisecond}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		for i := range 40 {
			c.Upstream.Push(name, fmt.Sprintf("v%02d", i), image)
		}
		list := func(ctx context.Context, n int) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/v2/%s/tags/list?n=%d", c.Server.URL, name, n), nil)
			Expect(err).NotTo(HaveOccurred())
			response, err := c.Client.HTTP.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			var list struct{ Tags []string }
			Expect(json.NewDecoder(response.Body).Decode(&list)).To(Succeed())
			Expect(list.Tags).To(HaveLen(n))
			return nil
		}
		var asking sync.WaitGroup
		for n := range 10 {
			asking.Go(func() {
				defer GinkgoRecover()
				Expect(list(ctx, n+2)).To(Succeed())
			})
		}
		asking.Wait()
		Expect(c.Upstream.Counters().Total(upstreamsim.Tags)).To(BeNumerically("<=", 10+2*40))

		c.Upstream.ResetCounters()
		leaving, leave := context.WithCancel(ctx)
		for n := range 10 {
			asking.Go(func() {
				defer GinkgoRecover()
				Expect(list(leaving, n+2)).To(MatchError(context.Canceled))
			})
		}
		Eventually(func() int { return c.Upstream.Counters().Total(upstreamsim.Tags) }).Should(BeNumerically(">", 10))
		leave()
		asking.Wait()
		var before int
		Eventually(func() bool {
			now := c.Upstream.Counters().Total(upstreamsim.Tags)
			stands := now == before
			before = now
			return stands
		}).WithPolling(500 * time.Millisecond).Should(BeTrue())
		Expect(before).To(BeNumerically("<", 40))
	})
})
