// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
)

func descriptor(content, more string) string {
	return `{"digest":"` + digest.FromString(content).String() + `","size":3` + more + `}`
}

// image is the beginning of an image manifest.
const image = `{"mediaType":"` + manifest.OCIManifest + `",`

var _ = Describe("Parse", func() {
	DescribeTable("finds the type and the children of", func(content, sentAs, mediaType string, children ...string) {
		info, err := manifest.Parse([]byte(content), sentAs)
		Expect(err).NotTo(HaveOccurred())
		Expect(info.MediaType).To(Equal(mediaType))
		var digests []string
		for _, child := range info.Children {
			digests = append(digests, child.Digest.String())
		}
		var expected []string
		for _, child := range children {
			expected = append(expected, digest.FromString(child).String())
		}
		Expect(digests).To(ConsistOf(expected))
	},
		Entry("an image", image+`"config":`+descriptor("c", "")+`,"layers":[`+descriptor("l", "")+`]}`, "", manifest.OCIManifest, "c", "l"),
		Entry("an image of Docker", `{"mediaType":"`+manifest.DockerManifest+`","config":`+descriptor("c", "")+`,"layers":[`+descriptor("l", "")+`]}`, "",
			manifest.DockerManifest, "c", "l"),
		Entry("an image with the same layer twice", image+`"layers":[`+descriptor("l", "")+`,`+descriptor("l", "")+`]}`, "", manifest.OCIManifest, "l"),
		Entry("an artifact", `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[`+descriptor("b", "")+`]}`, "",
			"application/vnd.oci.artifact.manifest.v1+json", "b"),
		Entry("an image with fields of an index, which do not count", image+`"blobs":[`+descriptor("b", "")+`],"manifests":[`+descriptor("m", "")+`]}`, "", manifest.OCIManifest),
		Entry("an index with fields of an image, which do not count", `{"mediaType":"`+manifest.OCIIndex+`","blobs":[`+descriptor("b", "")+`],"layers":[`+descriptor("l", "")+`],"manifests":[`+descriptor("m", "")+`]}`,
			"", manifest.OCIIndex, "m"),
		Entry("a manifest of an unknown type, which has none", `{"mediaType":"a/b","layers":[`+descriptor("l", "")+`],"manifests":[`+descriptor("m", "")+`]}`, "", "a/b"),
		Entry("a manifest of an unknown type with fields of other types", `{"mediaType":"a/b","config":"c","layers":{"l":1},"schemaVersion":"x"}`, "", "a/b"),
		Entry("a manifest that is not JSON", "\x00\x01", "application/vnd.other", "application/vnd.other"),
		Entry("a manifest that is not JSON, with many commas", strings.Repeat(",", 100_001), "application/vnd.other", "application/vnd.other"),
		Entry("a manifest that is not JSON, with many brackets", strings.Repeat("[", 65), "application/vnd.other", "application/vnd.other"),
		Entry("an index without a type", `{"schemaVersion":2,"manifests":[`+descriptor("m", "")+`]}`, "application/json", manifest.OCIIndex, "m"),
		Entry("an image without a type", `{"schemaVersion":2,"layers":[]}`, "", manifest.OCIManifest),
		Entry("an object without a type, which has the type that it was sent with", `{}`, "application/vnd.other", "application/vnd.other"),
		Entry("an object with a type, which takes precedence", `{"mediaType":"a/own"}`, "application/vnd.other", "a/own"),
		Entry("an image with layers on other servers, which do not count", image+`"layers":[`+descriptor("l", `,"urls":["https://example.com"]`)+`]}`, "", manifest.OCIManifest),
		Entry("an image with a subject, which does not count", image+`"subject":`+descriptor("s", "")+`}`, "", manifest.OCIManifest),
		Entry("an image with names in the wrong case, which do not count", image+`"Layers":[`+descriptor("l", "")+`]}`, "", manifest.OCIManifest),
		Entry("an image with invalid digests, which do not count", image+`"layers":[{"digest":"sha256:12"},{"digest":"../../etc"}]}`, "", manifest.OCIManifest),
	)

	DescribeTable("reports whether all parsers find the same in a manifest with", func(content string, explicit bool) {
		info, err := manifest.Parse([]byte(content), manifest.OCIManifest)
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Explicit).To(Equal(explicit))
	},
		Entry("its type", image+`"layers":[]}`, true),
		Entry("no type", `{"layers":[]}`, false),
		Entry("two types", image+`"mediaType":"a/b"}`, false),
		Entry("two lists of layers", image+`"layers":[],"layers":[]}`, false),
		Entry("a layer of two digests", image+`"layers":[{"digest":"a","digest":"b"}]}`, false),
		Entry("layers for case-insensitive parsers only", image+`"Layers":[`+descriptor("l", "")+`]}`, false),
		Entry("other layers for case-insensitive parsers", image+`"layers":[`+descriptor("l", "")+`],"Layers":[]}`, false),
		Entry("other layers for parsers that fold Unicode", image+`"layers":[`+descriptor("l", "")+`],"layer\u017f":[]}`, false),
		Entry("another digest of a layer for case-insensitive parsers", image+`"layers":[`+descriptor("l", `,"Digest":"b"`)+`]}`, false),
		Entry("another type for case-insensitive parsers", image+`"MediaType":"a/b"}`, false),
		Entry("another configuration for case-insensitive parsers", image+`"config":{"DIGEST":"b"}}`, false),
		Entry("known names in values and annotations", image+`"annotations":{"a":{"b":"Layers"}},"x":"LAYERS"}`, true),
		Entry("duplicate names in annotations", image+`"annotations":{"a":"b","a":"c"}}`, true),
	)

	DescribeTable("refuses Docker's schema 1", func(content, sentAs string) {
		_, err := manifest.Parse([]byte(content), sentAs)
		Expect(err).To(MatchError(ContainSubstring("schema 1")))
	},
		Entry("by its version", `{"schemaVersion":1,"fsLayers":[]}`, "application/json"),
		Entry("by its type", `{}`, "application/vnd.docker.distribution.manifest.v1+json"),
		Entry("by its type, signed", `{"layers":1}`, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
	)

	DescribeTable("refuses", func(content string, sentAs ...string) {
		_, err := manifest.Parse([]byte(content), strings.Join(sentAs, ""))
		Expect(err).To(HaveOccurred())
	},
		Entry("a web page", `<html>`, "text/html"),
		Entry("an image with invalid layers", `{"mediaType":"`+manifest.OCIManifest+`","layers":1}`, "a/b"),
		Entry("a document that was sent as an image, with invalid layers", `{"layers":1}`, manifest.OCIManifest),
		Entry("a document that is not JSON", `<html>`),
		Entry("a document that is not an object", `[]`),
		Entry("an error", `{"errors":[{"code":"UNKNOWN"}]}`, "application/json"),
		Entry("an empty object of no type", `{"schemaVersion":2}`),
		Entry("too many values", `{"layers":[],"annotations":[0`+strings.Repeat(",0", 100_000)+`]}`),
		Entry("too many values in a document that was sent as an image", `{"annotations":[0`+strings.Repeat(",0", 100_000)+`]}`, manifest.OCIManifest),
		Entry("too many values in a web page", strings.Repeat(",", 100_001), "text/html"),
		Entry("too many values in a manifest of schema 1", strings.Repeat(",", 100_001), "application/vnd.docker.distribution.manifest.v1+json"),
		Entry("too many descriptors", image+`"blobs":[{}`+strings.Repeat(",{}", 50_000)+`]}`),
		Entry("layers that are not descriptors", image+`"layers":[1]}`),
		Entry("deep nesting", `{"layers":[],"a":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`}`),
	)

	It("does not count brackets and commas in strings", func() {
		_, err := manifest.Parse([]byte(`{"layers":[],"annotations":{"a":"`+strings.Repeat(`[\",{`, 200_000)+`"}}`), "")
		Expect(err).NotTo(HaveOccurred())
	})

	It("accepts the maximum number of layers, with annotations", func() {
		var layers strings.Builder
		for i := range 10_000 {
			if i > 0 {
				layers.WriteByte(',')
			}
			layers.WriteString(descriptor(strconv.Itoa(i), `,"mediaType":"a/b","annotations":{"org.opencontainers.image.title":"a","b":"c"}`))
		}
		content := image + `"layers":[` + layers.String() + `]}`
		Expect(len(content)).To(BeNumerically("<", manifest.MaxBytes))
		info, err := manifest.Parse([]byte(content), "")
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Children).To(HaveLen(10_000))
	})

	It("reads only the type of a manifest of an unknown type", func() {
		info, err := manifest.Parse([]byte(`{"mediaType":"a/b","schemaVersion":"x","config":1,"layers":{"a":2},"manifests":"c"}`), "")
		Expect(err).NotTo(HaveOccurred())
		Expect(info).To(Equal(manifest.Info{MediaType: "a/b", Explicit: true}))
	})
})

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:12"}}`), "application/json")
	f.Add([]byte(`{"manifests":[`+descriptor("m", "")+`]}`), "")
	f.Fuzz(func(t *testing.T, content []byte, sentAs string) {
		info, err := manifest.Parse(content, sentAs)
		if err != nil {
			return
		}
		if info.MediaType == "" {
			t.Error("no media type")
		}
		for _, child := range info.Children {
			if child.Digest.Validate() != nil {
				t.Errorf("invalid digest %q", child.Digest)
			}
		}
	})
}
