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
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/upstreamsim"
)

// dockerList is a type that clients accept only if they name it.
const dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"

var _ = Describe("Manifests at hand", func() {
	var (
		c *enginetest.Cache
		// direct serves manifests at hand itself, and passes other requests to distribution; then asked is true.
		direct, distribution http.Handler
		asked                bool
		image, list          upstreamsim.Content
	)

	BeforeEach(func(ctx context.Context) {
		c = enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Freshness = time.Hour })
		config := &configuration.Configuration{
			Storage: configuration.Storage{
				"filesystem":  configuration.Parameters{"rootdirectory": c.Root},
				"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
			},
		}
		config.HTTP.Prefix = "/cache/"
		config.HTTP.Headers = http.Header{"X-Content-Type-Options": {"nosniff"}, "X-Cluster": {"a", "b"}}
		c.Engine.Install(config)
		distribution = handlers.NewApp(ctx, config)
		direct = c.Engine.Handler(pullthrough.API{Prefix: config.HTTP.Prefix, Header: config.HTTP.Headers},
			http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = true
				distribution.ServeHTTP(w, r)
			}))

		small := upstreamsim.RandomImage(1, 1, 100)
		c.Upstream.Push(name, "v1", small)
		image = small.Manifest
		list = upstreamsim.Content{MediaType: dockerList, Data: []byte(`{"schemaVersion":2,"mediaType":"` + dockerList +
			`","manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"` + image.Descriptor().Digest.String() +
			`","size":1,"platform":{"architecture":"amd64","os":"linux"}}]}`)}
		c.Upstream.PushManifest(name, "list", list)
		for _, tag := range []string{"v1", "list"} {
			_, err := c.Client.Manifest(ctx, name, tag)
			Expect(err).NotTo(HaveOccurred())
		}
	})

	const ours, distributions = false, true
	DescribeTable("get the responses of Distribution", func(method, path string, header http.Header, by bool) {
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
		Expect(c.Upstream.Counters().MostRequested()).To(BeEquivalentTo(1))
	},
		Entry("HEAD of a tag", http.MethodHead, "/cache/v2/library/app/manifests/v1", nil, ours),
		Entry("GET of a tag", http.MethodGet, "/cache/v2/library/app/manifests/v1", nil, ours),
		Entry("HEAD of a digest", http.MethodHead, "/cache/v2/library/app/manifests/IMAGE", nil, ours),
		Entry("GET of a digest", http.MethodGet, "/cache/v2/library/app/manifests/IMAGE", nil, ours),
		Entry("with the upstream in the query, as containerd sends it", http.MethodHead, "/cache/v2/library/app/manifests/v1?ns=registry.example.com", nil, ours),
		Entry("any type accepted", http.MethodGet, "/cache/v2/library/app/manifests/v1", http.Header{"Accept": {"*/*"}}, ours),
		Entry("its type accepted", http.MethodGet, "/cache/v2/library/app/manifests/v1", http.Header{"Accept": {dockerList + ", " + imagev1.MediaTypeImageManifest}}, ours),
		Entry("other types accepted", http.MethodGet, "/cache/v2/library/app/manifests/v1", http.Header{"Accept": {imagev1.MediaTypeImageIndex}}, distributions),
		Entry("a list, accepted", http.MethodGet, "/cache/v2/library/app/manifests/list", http.Header{"Accept": {dockerList}}, ours),
		Entry("a list, not accepted", http.MethodGet, "/cache/v2/library/app/manifests/LIST", nil, distributions),
		Entry("If-None-Match", http.MethodGet, "/cache/v2/library/app/manifests/v1", http.Header{"If-None-Match": {`"IMAGE"`}}, distributions),
		Entry("another repository", http.MethodGet, "/cache/v2/library/other/manifests/IMAGE", nil, distributions),
		Entry("outside the prefix", http.MethodGet, "/v2/library/app/manifests/v1", nil, distributions),
		Entry("a blob", http.MethodGet, "/cache/v2/library/app/blobs/IMAGE", nil, distributions),
	)

	It("are counted", func() {
		before, hits := c.Value("requests_total", "type", "manifest"), c.Value("hits_total", "type", "manifest")
		asked = false
		direct.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodHead, "/cache/v2/library/app/manifests/v1", nil))
		Expect(asked).To(BeFalse())
		Expect(c.Value("requests_total", "type", "manifest")).To(Equal(before + 1))
		Expect(c.Value("hits_total", "type", "manifest")).To(Equal(hits + 1))
	})

	It("are validated when the tag is no longer fresh", func() {
		c.Restart(nil)
		for range 2 {
			_, err := c.Client.Head(context.Background(), name, "v1")
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(c.Upstream.Counters().Total(upstreamsim.ManifestHead)).To(BeEquivalentTo(2))
	})
})
