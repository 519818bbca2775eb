// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/upstreamsim"
)

// dockerList is a type that clients do not take which do not name it.
const dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"

var _ = Describe("Manifests at hand", func() {
	var (
		c *cache
		// direct answers what is at hand, by way of Distribution everything else; then asked is true.
		direct, distribution http.Handler
		asked                bool
		image, list          upstreamsim.Content
	)

	BeforeEach(func(ctx context.Context) {
		c = newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Freshness = time.Hour })
		config := &configuration.Configuration{
			Storage: configuration.Storage{
				"filesystem":  configuration.Parameters{"rootdirectory": c.root},
				"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
			},
		}
		config.HTTP.Prefix = "/cache/"
		config.HTTP.Headers = http.Header{"X-Content-Type-Options": {"nosniff"}, "X-Cluster": {"a", "b"}}
		c.engine.Install(config)
		distribution = c.engine.Handler(handlers.NewApp(ctx, config))
		direct = c.engine.Manifests(pullthrough.API{Prefix: config.HTTP.Prefix, Header: config.HTTP.Headers},
			http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = true
				distribution.ServeHTTP(w, r)
			}))

		small := upstreamsim.RandomImage(1, 1, 100)
		c.upstream.Push(name, "v1", small)
		image = small.Manifest
		list = upstreamsim.Content{MediaType: dockerList, Data: []byte(`{"schemaVersion":2,"mediaType":"` + dockerList +
			`","manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"` + image.Descriptor().Digest.String() +
			`","size":1,"platform":{"architecture":"amd64","os":"linux"}}]}`)}
		c.upstream.PushManifest(name, "list", list)
		for _, tag := range []string{"v1", "list"} {
			_, err := c.client.Manifest(ctx, name, tag)
			Expect(err).NotTo(HaveOccurred())
		}
	})

	const ours, distributions = false, true
	DescribeTable("are answered as Distribution does", func(method, path string, header http.Header, by bool) {
		path = strings.NewReplacer("IMAGE", image.Descriptor().Digest.String(), "LIST", list.Descriptor().Digest.String()).Replace(path)
		answer := func(handler http.Handler) *http.Response {
			request := httptest.NewRequest(method, path, nil)
			for name, values := range header {
				for _, value := range values {
					request.Header.Add(name, strings.ReplaceAll(value, "IMAGE", image.Descriptor().Digest.String()))
				}
			}
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			return recorder.Result()
		}
		asked = false
		actual := answer(direct)
		Expect(asked).To(Equal(by))
		expected := answer(distribution)
		Expect(actual.StatusCode).To(Equal(expected.StatusCode))
		Expect(actual.Header).To(Equal(expected.Header))
		body, err := io.ReadAll(expected.Body)
		Expect(err).NotTo(HaveOccurred())
		Expect(io.ReadAll(actual.Body)).To(Equal(body))
		Expect(c.upstream.Counters().MostRequested()).To(BeEquivalentTo(1))
	},
		Entry("HEAD of a tag", http.MethodHead, "/cache/v2/library/app/manifests/v1", nil, ours),
		Entry("GET of a tag", http.MethodGet, "/cache/v2/library/app/manifests/v1", nil, ours),
		Entry("HEAD of a digest", http.MethodHead, "/cache/v2/library/app/manifests/IMAGE", nil, ours),
		Entry("GET of a digest", http.MethodGet, "/cache/v2/library/app/manifests/IMAGE", nil, ours),
		Entry("of the upstream that containerd names", http.MethodHead, "/cache/v2/library/app/manifests/v1?ns=registry.example.com", nil, ours),
		Entry("for who takes anything", http.MethodGet, "/cache/v2/library/app/manifests/v1", http.Header{"Accept": {"*/*"}}, ours),
		Entry("for who takes the type", http.MethodGet, "/cache/v2/library/app/manifests/v1", http.Header{"Accept": {dockerList + ", " + imagev1.MediaTypeImageManifest}}, ours),
		Entry("for who takes other types", http.MethodGet, "/cache/v2/library/app/manifests/v1", http.Header{"Accept": {imagev1.MediaTypeImageIndex}}, distributions),
		Entry("a list, for who takes lists", http.MethodGet, "/cache/v2/library/app/manifests/list", http.Header{"Accept": {dockerList}}, ours),
		Entry("a list, for who does not", http.MethodGet, "/cache/v2/library/app/manifests/LIST", nil, distributions),
		Entry("for who has it", http.MethodGet, "/cache/v2/library/app/manifests/v1", http.Header{"If-None-Match": {`"IMAGE"`}}, distributions),
		Entry("not from another repository", http.MethodGet, "/cache/v2/library/other/manifests/IMAGE", nil, distributions),
		Entry("not outside of the prefix", http.MethodGet, "/v2/library/app/manifests/v1", nil, distributions),
		Entry("not to who wants to change it", http.MethodDelete, "/cache/v2/library/app/manifests/IMAGE", nil, distributions),
		Entry("not a blob", http.MethodGet, "/cache/v2/library/app/blobs/IMAGE", nil, distributions),
	)

	It("are counted", func() {
		before, hits := c.value("requests_total", "type", "manifest"), c.value("hits_total", "type", "manifest")
		asked = false
		direct.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodHead, "/cache/v2/library/app/manifests/v1", nil))
		Expect(asked).To(BeFalse())
		Expect(c.value("requests_total", "type", "manifest")).To(Equal(before + 1))
		Expect(c.value("hits_total", "type", "manifest")).To(Equal(hits + 1))
	})

	It("are answered by way of Distribution when the tag is no longer fresh", func() {
		c.restart(nil)
		for range 2 {
			_, err := c.client.Head(context.Background(), name, "v1")
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(c.upstream.Counters().Total(upstreamsim.ManifestHead)).To(BeEquivalentTo(2))
	})
})
