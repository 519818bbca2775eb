// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package route_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
)

func TestParse(t *testing.T) {
	for path, expected := range map[string]route.Route{
		"/v2/":                           {Kind: route.Base},
		"/v2/_catalog":                   {Kind: route.Catalog},
		"/v2/a/tags/list":                {Kind: route.Tags, Repository: "a"},
		"/v2/a/b/manifests/v1":           {Kind: route.Manifest, Repository: "a/b", Reference: "v1"},
		"/v2/a/blobs/sha256:0":           {Kind: route.Blob, Repository: "a", Reference: "sha256:0"},
		"/v2/a/blobs/uploads/":           {Kind: route.BlobUpload, Repository: "a"},
		"/v2/a/blobs/uploads/x":          {Kind: route.BlobUploadChunk, Repository: "a", Reference: "x"},
		"/v2/a/referrers/sha256:0":       {Kind: route.Referrers, Repository: "a", Reference: "sha256:0"},
		"/v2/manifests/manifests/latest": {Kind: route.Manifest, Repository: "manifests", Reference: "latest"},
		"/v2":                            {},
		"/":                              {},
		"/v1/a/manifests/v1":             {},
		"/v2/manifests/v1":               {},
		"/v2/a/manifests/":               {},
		"/v2/a/tags/":                    {},
		"/v2/a/tags/v1":                  {},
		"/v2/a/blobs/uploads":            {},
		"/v2/a/b":                        {},
	} {
		NewWithT(t).Expect(route.Parse("", path)).To(Equal(expected), path)
		NewWithT(t).Expect(route.Parse("/cache/", "/cache"+path)).To(Equal(expected), path)
		NewWithT(t).Expect(route.Parse("/cache", path).Kind).To(BeEmpty(), path)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/v2/a/blobs/uploads/x")
	f.Fuzz(func(t *testing.T, path string) {
		r := route.Parse("", path)
		if needs := r.Kind == route.Manifest || r.Kind == route.Blob || r.Kind == route.Referrers; needs && (r.Repository == "" || r.Reference == "") {
			t.Errorf("%q is %+v", path, r)
		}
	})
}
