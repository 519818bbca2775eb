// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
)

var _ = Describe("Reading", func() {
	It("adds up the metrics of manifests and blobs", func() {
		Expect(parseCounts([]byte("# TYPE registry_proxy_hits_total counter\n" +
			"registry_proxy_hits_total{type=\"blob\"} 2\nregistry_proxy_hits_total{type=\"manifest\"} 1\n" +
			"# TYPE registry_proxy_misses_total counter\nregistry_proxy_misses_total{type=\"blob\"} 4\n"))).
			To(Equal(Counts{Hits: 3, Misses: 4}))
		Expect(parseCounts(nil)).To(Equal(Counts{}))
	})

	It("reads the access log", func() {
		line := `time=2026-01-01T00:00:00Z level=INFO msg=request registry=private client=10.42.0.7 user=robot$puller method=GET path=/v2/demo/hello/manifests/v1 status=200 agent="a \"b\" c"`
		request, ok := parseRequest(line)
		Expect(ok).To(BeTrue())
		Expect(request).To(Equal(Request{
			Registry: "private", Client: "10.42.0.7", User: "robot$puller", Method: "GET", Path: "/v2/demo/hello/manifests/v1", Status: 200, Line: line,
			Time: time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC),
		}))
		_, ok = parseRequest("level=INFO msg=started")
		Expect(ok).To(BeFalse())
	})
})

var _ = Describe("judge", func() {
	var seen *observation

	BeforeEach(func() {
		cache := corev1.Pod{Status: corev1.PodStatus{PodIP: "10.42.0.7"}}
		seen = &observation{
			pod:      &corev1.Pod{},
			cache:    []corev1.Pod{cache},
			robot:    "robot$puller",
			first:    Counts{Misses: 3},
			second:   Counts{Hits: 3},
			requests: []Request{{Client: "10.42.0.7", User: "robot$puller", Status: 200}, {Client: "10.42.0.7", User: "-", Status: 401}},
			hosts:    `[host."https://10.43.0.9:5000"]`,
		}
	})

	It("is content when all speaks for the cache", func() { Expect(seen.judge()).To(Succeed()) })

	DescribeTable("says what speaks against it",
		func(spoil func(), message string) {
			spoil()
			Expect(seen.judge()).To(MatchError(ContainSubstring(message)))
		},
		Entry("credentials", func() { seen.pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}} }, "credentials of its own"),
		Entry("no miss", func() { seen.first = Counts{Hits: 3} }, "before anybody pulled it"),
		Entry("no hit", func() { seen.second = Counts{} }, "was not served by what the cache had kept"),
		Entry("miss again", func() { seen.second.Misses = 1 }, "was not served by what the cache had kept"),
		Entry("no request", func() { seen.requests = nil }, "saw no request"),
		Entry("the node asked", func() { seen.requests[0].Client = "10.1.2.3" }, "somebody else than the cache"),
		Entry("another user", func() { seen.requests[0].User = "someone" }, "somebody else than robot$puller"),
		Entry("no hosts", func() { seen.hosts = "" }, "names no cache"),
	)
})
