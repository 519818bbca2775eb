// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func response(req *http.Request, status int, header http.Header) *http.Response {
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: req}
}

var _ = Describe("Health", func() {
	var (
		now    time.Time
		status map[string]int // by repository; 0 means no response
		seen   *observer
		c      *remote.Client
	)
	const storage = "storage.example.net"

	BeforeEach(func() {
		now = time.Now()
		status = map[string]int{}
		seen = newObserver()
		var err error
		c, err = remote.New(remote.Options{
			URL: "https://registry.example.com", Observer: seen, Now: func() time.Time { return now },
			Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				repository := strings.Split(req.URL.Path, "/")[2]
				switch {
				case repository == "redirected" && req.URL.Host != storage:
					return response(req, http.StatusTemporaryRedirect, http.Header{"Location": {"https://" + storage + req.URL.Path}}), nil
				case status[repository] == 0:
					return nil, errors.New("connection refused")
				}
				return response(req, status[repository], http.Header{}), nil
			}),
		})
		Expect(err).NotTo(HaveOccurred())
	})
	ask := func(ctx context.Context, repositories ...string) {
		for _, repository := range repositories {
			_, _ = c.Resolve(ctx, repository, "v1")
		}
	}

	DescribeTable("is that of the API as a whole", func(ctx context.Context, statuses map[string]int, repositories string, healthy bool) {
		status = statuses
		ask(ctx, strings.Fields(repositories)...)
		Expect(c.Healthy()).To(Equal(healthy))
	},
		Entry("no response once", map[string]int{}, "a", true),
		Entry("no response twice", map[string]int{}, "a a", false),
		Entry("a response in between", map[string]int{"b": 404}, "a b a", true),
		Entry("a gateway without its registry", map[string]int{"a": 503, "b": 502}, "a b", false),
		Entry("a repository without its backend", map[string]int{"a": 503}, "a a a a", true),
		Entry("a registry with a fault", map[string]int{"a": 500, "b": 500}, "a b a b", true),
		Entry("a rate limit", map[string]int{"a": 429, "b": 429}, "a b", true),
		Entry("storage that is down", map[string]int{"redirected": 0}, "redirected redirected redirected", true),
	)

	It("is probed at intervals that double, however many requests fail meanwhile", func(ctx context.Context) {
		ask(ctx, "a", "a")
		Expect(c.Probe()).To(BeFalse())
		for _, delay := range []int{1, 2, 4, 8, 16, 30, 30} {
			ask(ctx, "a", "b", "a", "b", "a", "b")
			now = now.Add(time.Duration(delay)*time.Second - 1)
			Expect(c.Probe()).To(BeFalse())
			now = now.Add(1)
			Expect(c.Probe()).To(BeTrue())
			Expect(c.Probe()).To(BeFalse(), "one is enough")
		}
		Expect(seen.up).To(Equal([]bool{false}))

		By("recovering with any response")
		status["a"] = http.StatusOK
		ask(ctx, "a")
		Expect(c.Healthy()).To(BeTrue())
		Expect(seen.up).To(Equal([]bool{false, true}))

		By("starting over with the next outage")
		delete(status, "a")
		ask(ctx, "a", "a")
		now = now.Add(time.Second)
		Expect(c.Probe()).To(BeTrue())
	})
})
