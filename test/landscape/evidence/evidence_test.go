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

var _ = Describe("verify", func() {
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

	It("accepts a pull through the cache", func() { Expect(seen.verify()).To(Succeed()) })

	DescribeTable("rejects",
		func(spoil func(), message string) {
			spoil()
			Expect(seen.verify()).To(MatchError(ContainSubstring(message)))
		},
		Entry("a pod with credentials", func() { seen.pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}} }, "the pod has credentials"),
		Entry("a first pull without a miss", func() { seen.first = Counts{Hits: 3} }, "before the first pull"),
		Entry("a second pull without a hit", func() { seen.second = Counts{} }, "was not served from the cache"),
		Entry("a second pull with a miss", func() { seen.second.Misses = 1 }, "was not served from the cache"),
		Entry("an upstream without requests", func() { seen.requests = nil }, "saw no request"),
		Entry("a request of the node", func() { seen.requests[0].Client = "10.1.2.3" }, "other than the cache"),
		Entry("a request of another user", func() { seen.requests[0].User = "someone" }, "other than robot$puller"),
		Entry("a hosts.toml without a cache", func() { seen.hosts = "" }, "names no cache"),
	)
})
