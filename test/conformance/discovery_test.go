// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("tags", func() {
	const tagList = "/v2/" + name + "/tags/list"

	parse := func(got response) []string {
		GinkgoHelper()
		Expect(got.status).To(Equal(http.StatusOK), string(got.body))
		Expect(got.header.Get("Content-Type")).To(HavePrefix("application/json"))
		var list struct {
			Name string
			Tags []string
		}
		Expect(json.Unmarshal(got.body, &list)).To(Succeed())
		Expect(list.Name).To(Equal(name))
		return list.Tags
	}
	all := []string{docker, index, tag}

	for _, s := range []state{cold, warm, down} {
		Context(string(s), func() {
			var f *fixture

			BeforeEach(func(ctx context.Context) {
				f = given(ctx, s, upstreamsim.Options{})
			})

			It("lists them in lexical order", func(ctx context.Context) {
				got := f.get(ctx, http.MethodGet, tagList, nil)
				Expect(parse(got)).To(Equal(all))
				Expect(got.next()).To(BeEmpty())
			})

			It("lists them page by page", func(ctx context.Context) {
				for _, n := range []int{1, 2} {
					var tags []string
					path := fmt.Sprintf("%s?n=%d", tagList, n)
					for range len(all) + 1 {
						got := f.get(ctx, http.MethodGet, path, nil)
						page := parse(got)
						Expect(len(page)).To(BeNumerically("<=", n))
						tags = append(tags, page...)
						if path = got.next(); path == "" {
							break
						}
					}
					Expect(path).To(BeEmpty(), "the last page has no link")
					Expect(tags).To(Equal(all))
				}
			})

			It("lists them after a given one", func(ctx context.Context) {
				Expect(parse(f.get(ctx, http.MethodGet, tagList+"?n=10&last="+docker, nil))).To(Equal(all[1:]))
				Expect(parse(f.get(ctx, http.MethodGet, tagList+"?n=1&last="+index, nil))).To(Equal(all[2:]))
			})

			It("rejects an invalid number of tags", func(ctx context.Context) {
				got := f.get(ctx, http.MethodGet, tagList+"?n=-1", nil)
				Expect(got.status).To(Equal(http.StatusBadRequest))
			})
		})
	}

	DescribeTable("come from all pages of an upstream", func(ctx context.Context, options upstreamsim.Options) {
		f := given(ctx, cold, options)
		Expect(parse(f.get(ctx, http.MethodGet, tagList, nil))).To(Equal(all))
		Expect(parse(f.get(ctx, http.MethodGet, tagList+"?n=2", nil))).To(Equal(all[:2]))
		Expect(parse(f.get(ctx, http.MethodGet, tagList+"?n=2&last="+all[0], nil))).To(Equal(all[1:]))
	},
		Entry("that continue after the last tag", upstreamsim.Options{PageSize: 2}),
		Entry("that continue at a token", upstreamsim.Options{PageSize: 2, PageTokens: true}),
	)

	It("follows the upstream", func(ctx context.Context) {
		f := given(ctx, warm, upstreamsim.Options{})
		f.upstream.Push(name, "z-new", f.other)
		f.upstream.DeleteTag(name, docker)
		Expect(parse(f.get(ctx, http.MethodGet, tagList, nil))).To(Equal([]string{index, tag, "z-new"}))
	})
})

var _ = Describe("referrers", func() {
	parse := func(got response) []imagev1.Descriptor {
		GinkgoHelper()
		Expect(got.status).To(Equal(http.StatusOK), string(got.body))
		Expect(got.header.Get("Content-Type")).To(Equal(imagev1.MediaTypeImageIndex))
		var list imagev1.Index
		Expect(json.Unmarshal(got.body, &list)).To(Succeed())
		Expect(list.SchemaVersion).To(Equal(2))
		Expect(list.MediaType).To(Equal(imagev1.MediaTypeImageIndex))
		return list.Manifests
	}
	types := func(descriptors []imagev1.Descriptor) []string {
		types := make([]string, 0, len(descriptors))
		for _, d := range descriptors {
			types = append(types, d.ArtifactType)
		}
		return types
	}

	for _, s := range []state{cold, warm, down} {
		Context(string(s), func() {
			var f *fixture
			var path string

			BeforeEach(func(ctx context.Context) {
				f = given(ctx, s, upstreamsim.Options{})
				path = "/v2/" + name + "/referrers/" + f.image.Digest().String()
			})

			It("lists the referrers of a manifest", func(ctx context.Context) {
				got := parse(f.get(ctx, http.MethodGet, path, nil))
				Expect(types(got)).To(ConsistOf(signing, listing))
				for _, descriptor := range got {
					Expect(descriptor.MediaType).To(Equal(imagev1.MediaTypeImageManifest))
					Expect(descriptor.Annotations).To(HaveKeyWithValue("org.example.kind", descriptor.ArtifactType))
				}
			})

			It("lists those of one type and declares the filter", func(ctx context.Context) {
				got := f.get(ctx, http.MethodGet, path+"?artifactType="+url.QueryEscape(signing), nil)
				if got.header.Get("OCI-Filters-Applied") == "" {
					Expect(types(parse(got))).To(ConsistOf(signing, listing))
					return
				}
				Expect(got.header.Get("OCI-Filters-Applied")).To(Equal("artifactType"))
				Expect(types(parse(got))).To(ConsistOf(signing))
			})

			It("rejects an invalid digest", func(ctx context.Context) {
				got := f.get(ctx, http.MethodGet, "/v2/"+name+"/referrers/sha256:totallywrong", nil)
				Expect(got.status).To(Or(Equal(http.StatusBadRequest), Equal(http.StatusNotFound)))
			})
		})
	}

	It("returns an empty list without referrers", func(ctx context.Context) {
		f := given(ctx, cold, upstreamsim.Options{})
		Expect(parse(f.get(ctx, http.MethodGet, "/v2/"+name+"/referrers/"+missing, nil))).To(BeEmpty())
	})

	It("does not return an empty list while the upstream is down", func(ctx context.Context) {
		f := given(ctx, down, upstreamsim.Options{})
		f.get(ctx, http.MethodGet, "/v2/"+name+"/referrers/"+f.other.Digest().String(), nil).expectError(http.StatusServiceUnavailable, "UNAVAILABLE")
	})

	It("lists all pages of the upstream", func(ctx context.Context) {
		f := given(ctx, cold, upstreamsim.Options{PageSize: 1})
		var listed []imagev1.Descriptor
		for path := "/v2/" + name + "/referrers/" + f.image.Digest().String(); path != ""; {
			got := f.get(ctx, http.MethodGet, path, nil)
			listed = append(listed, parse(got)...)
			path = got.next()
		}
		Expect(types(listed)).To(ConsistOf(signing, listing))
	})

	It("lists later referrers", func(ctx context.Context) {
		f := given(ctx, warm, upstreamsim.Options{})
		f.upstream.Push(name, "", upstreamsim.NewArtifact("application/vnd.example.late", f.image.Manifest.Descriptor()))
		got := parse(f.get(ctx, http.MethodGet, "/v2/"+name+"/referrers/"+f.image.Digest().String(), nil))
		Expect(types(got)).To(ContainElement("application/vnd.example.late"))
	})

	It("supports an upstream with the tag schema only", func(ctx context.Context) {
		f := given(ctx, cold, upstreamsim.Options{NoReferrers: true})
		fallback := upstreamsim.NewIndex(f.signature)
		f.upstream.PushManifest(name, strings.Replace(f.image.Digest().String(), ":", "-", 1), fallback)

		got := f.get(ctx, http.MethodGet, "/v2/"+name+"/referrers/"+f.image.Digest().String(), nil)
		if got.status != http.StatusNotFound {
			listed := parse(got)
			Expect(listed).To(HaveLen(1))
			Expect(listed[0].Digest).To(Equal(f.signature.Digest()))
		}
		// Clients of both kinds of registries find the referrer.
		f.expectManifest(ctx, strings.Replace(f.image.Digest().String(), ":", "-", 1), fallback)
	})
})
