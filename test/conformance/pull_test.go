// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/test/upstreamsim"
)

const missing = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

var _ = Describe("pull", func() {
	for _, s := range []state{cold, warm, down} {
		Context(string(s), func() {
			var f *fixture

			BeforeEach(func(ctx context.Context) {
				f = given(ctx, s, upstreamsim.Options{})
			})

			It("identifies itself as a registry", func(ctx context.Context) {
				Expect(f.get(ctx, http.MethodGet, "/v2/", nil).status).To(Equal(http.StatusOK))
			})

			DescribeTable("manifests", func(ctx context.Context, get func() (reference string, want upstreamsim.Content)) {
				reference, want := get()
				f.expectManifest(ctx, reference, want)
			},
				Entry("an image by tag", func() (string, upstreamsim.Content) { return tag, f.image.Manifest }),
				Entry("an image by digest", func() (string, upstreamsim.Content) { return f.image.Digest().String(), f.image.Manifest }),
				Entry("an index by tag", func() (string, upstreamsim.Content) { return index, f.index }),
				Entry("an image of an index", func() (string, upstreamsim.Content) { return f.other.Digest().String(), f.other.Manifest }),
				Entry("an image of Docker's types", func() (string, upstreamsim.Content) { return docker, f.docker.Manifest }),
				Entry("an artifact with a subject", func() (string, upstreamsim.Content) { return f.signature.Digest().String(), f.signature.Manifest }),
			)

			It("serves complete blobs", func(ctx context.Context) {
				for _, blob := range f.image.Blobs {
					f.expectBlob(ctx, blob)
				}
			})

			DescribeTable("ranges of blobs", func(ctx context.Context, spec string, start, end int) {
				blob := f.image.Layers()[0]
				size := len(blob.Data)
				got := f.get(ctx, http.MethodGet, blobPath(blob), map[string]string{"Range": spec})
				if s == cold && got.status == http.StatusOK { // a server may ignore ranges
					Expect(got.body).To(Equal(blob.Data))
					return
				}
				Expect(got.status).To(Equal(http.StatusPartialContent))
				if start < 0 {
					start += size
				}
				if end < 0 || end > size {
					end = size
				}
				Expect(got.header.Get("Content-Range")).To(Equal(fmt.Sprintf("bytes %d-%d/%d", start, end-1, size)))
				Expect(got.length).To(BeEquivalentTo(end - start))
				Expect(got.body).To(Equal(blob.Data[start:end]))
			},
				Entry("at the start", "bytes=0-9", 0, 10),
				Entry("in the middle", "bytes=1000-1999", 1000, 2000),
				Entry("to the end", "bytes=99000-", 99_000, -1),
				Entry("from the end", "bytes=-500", -500, -1),
				Entry("across the end", "bytes=99990-200000", 99_990, 200_000),
			)

			It("rejects ranges beyond the end", func(ctx context.Context) {
				blob := f.image.Layers()[0]
				got := f.get(ctx, http.MethodGet, blobPath(blob), map[string]string{"Range": "bytes=200000-200010"})
				if s == cold && got.status == http.StatusOK {
					Expect(got.body).To(Equal(blob.Data))
					return
				}
				Expect(got.status).To(Equal(http.StatusRequestedRangeNotSatisfiable))
				Expect(got.header.Get("Content-Range")).To(Equal("bytes */100000"))
			})

			It("responds 304 for content that the client has", func(ctx context.Context) {
				path := "/v2/" + name + "/manifests/" + f.image.Digest().String()
				etag := f.get(ctx, http.MethodGet, path, nil).header.Get("Etag")
				if etag == "" {
					Skip("the specification does not require ETags")
				}
				got := f.get(ctx, http.MethodGet, path, map[string]string{"If-None-Match": etag})
				Expect(got.status).To(Equal(http.StatusNotModified))
				Expect(got.body).To(BeEmpty())
			})

			It("rejects invalid references", func(ctx context.Context) {
				for _, path := range []string{
					"/v2/" + name + "/manifests/sha256:totallywrong",
					"/v2/" + name + "/blobs/sha256:totallywrong",
					"/v2/" + name + "/manifests/" + strings.Repeat("a", 129),
					"/v2/" + name + "/manifests/.dot",
					"/v2/UPPER/manifests/" + tag,
				} {
					Expect(f.get(ctx, http.MethodGet, path, nil).status).To(Or(Equal(http.StatusBadRequest), Equal(http.StatusNotFound)), path)
				}
			})

			It("rejects pushes", func(ctx context.Context) {
				for method, path := range map[string]string{
					http.MethodPost:   "/blobs/uploads/",
					http.MethodPut:    "/manifests/pushed",
					http.MethodDelete: "/manifests/" + f.image.Digest().String(),
					http.MethodPatch:  "/blobs/uploads/abc",
				} {
					got := f.get(ctx, method, "/v2/"+name+path, nil)
					Expect(got.status).To(And(BeNumerically(">=", 400), BeNumerically("<", 500)), "%s %s: %s", method, path, got.body)
				}
				f.expectManifest(ctx, f.image.Digest().String(), f.image.Manifest)
			})
		})
	}

	for _, s := range []state{cold, warm} {
		Context(string(s)+", with requests for missing content", func() {
			var f *fixture

			BeforeEach(func(ctx context.Context) {
				f = given(ctx, s, upstreamsim.Options{})
			})

			It("reports an unknown manifest", func(ctx context.Context) {
				for _, reference := range []string{"unknown", missing} {
					f.get(ctx, http.MethodGet, "/v2/"+name+"/manifests/"+reference, nil).expectError(http.StatusNotFound, "MANIFEST_UNKNOWN")
					Expect(f.get(ctx, http.MethodHead, "/v2/"+name+"/manifests/"+reference, nil).status).To(Equal(http.StatusNotFound))
				}
			})

			It("reports an unknown blob", func(ctx context.Context) {
				f.get(ctx, http.MethodGet, "/v2/"+name+"/blobs/"+missing, nil).expectError(http.StatusNotFound, "BLOB_UNKNOWN")
				Expect(f.get(ctx, http.MethodHead, "/v2/"+name+"/blobs/"+missing, nil).status).To(Equal(http.StatusNotFound))
			})

			It("reports an unknown repository", func(ctx context.Context) {
				f.get(ctx, http.MethodGet, "/v2/library/unknown/manifests/"+tag, nil).expectError(http.StatusNotFound, "NAME_UNKNOWN", "MANIFEST_UNKNOWN")
				f.get(ctx, http.MethodGet, "/v2/library/unknown/tags/list", nil).expectError(http.StatusNotFound, "NAME_UNKNOWN")
			})

			It("does not serve content of one repository in another", func(ctx context.Context) {
				blob := f.inOtherOne.Layers()[0].Descriptor().Digest.String()
				f.get(ctx, http.MethodGet, "/v2/"+name+"/blobs/"+blob, nil).expectError(http.StatusNotFound, "BLOB_UNKNOWN")
				manifest := f.inOtherOne.Digest().String()
				f.get(ctx, http.MethodGet, "/v2/"+name+"/manifests/"+manifest, nil).expectError(http.StatusNotFound, "MANIFEST_UNKNOWN")
			})
		})
	}
})

func blobPath(blob upstreamsim.Content) string {
	return "/v2/" + name + "/blobs/" + blob.Descriptor().Digest.String()
}

// expectManifest requests a manifest in all ways.
func (f *fixture) expectManifest(ctx context.Context, reference string, want upstreamsim.Content) {
	GinkgoHelper()
	path := "/v2/" + name + "/manifests/" + reference
	for _, accept := range []string{"", want.MediaType, "*/*", imagev1.MediaTypeImageIndex + ", " + want.MediaType} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			header := map[string]string{}
			if accept != "" {
				header["Accept"] = accept
			}
			got := f.get(ctx, method, path, header)
			Expect(got.status).To(Equal(http.StatusOK), "%s with Accept %q: %s", method, accept, got.body)
			Expect(got.header.Get("Content-Type")).To(Equal(want.MediaType))
			Expect(got.header.Get("Docker-Content-Digest")).To(Equal(want.Descriptor().Digest.String()))
			Expect(got.header.Get("Content-Length")).To(Equal(strconv.Itoa(len(want.Data))))
			if method == http.MethodGet {
				Expect(got.body).To(Equal(want.Data), "byte for byte")
			}
		}
	}
}

func (f *fixture) expectBlob(ctx context.Context, want upstreamsim.Content) {
	GinkgoHelper()
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		got := f.get(ctx, method, blobPath(want), nil)
		Expect(got.status).To(Equal(http.StatusOK), "%s: %s", method, got.body)
		Expect(got.header.Get("Docker-Content-Digest")).To(Equal(want.Descriptor().Digest.String()))
		Expect(got.header.Get("Content-Length")).To(Equal(strconv.Itoa(len(want.Data))))
		Expect(got.header.Get("Content-Type")).NotTo(BeEmpty())
		if method == http.MethodGet {
			Expect(got.body).To(Equal(want.Data))
		}
	}
}
