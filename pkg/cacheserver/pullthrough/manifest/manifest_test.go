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

// image is the beginning of an image's manifest.
const image = `{"mediaType":"` + manifest.OCIManifest + `",`

var _ = Describe("Parse", func() {
	DescribeTable("finds what a manifest needs", func(content, sentAs, mediaType string, children ...string) {
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
		Entry("the same layer twice", image+`"layers":[`+descriptor("l", "")+`,`+descriptor("l", "")+`]}`, "", manifest.OCIManifest, "l"),
		Entry("an artifact", `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[`+descriptor("b", "")+`]}`, "",
			"application/vnd.oci.artifact.manifest.v1+json", "b"),
		Entry("nothing that its type has no place for, an image", image+`"blobs":[`+descriptor("b", "")+`],"manifests":[`+descriptor("m", "")+`]}`, "", manifest.OCIManifest),
		Entry("nothing that its type has no place for, an index", `{"mediaType":"`+manifest.OCIIndex+`","blobs":[`+descriptor("b", "")+`],"layers":[`+descriptor("l", "")+`],"manifests":[`+descriptor("m", "")+`]}`,
			"", manifest.OCIIndex, "m"),
		Entry("nothing of a type that nobody knows", `{"mediaType":"a/b","layers":[`+descriptor("l", "")+`],"manifests":[`+descriptor("m", "")+`]}`, "", "a/b"),
		Entry("nothing of what an unknown type means by the same names", `{"mediaType":"a/b","config":"c","layers":{"l":1},"schemaVersion":"x"}`, "", "a/b"),
		Entry("nothing of bytes", "\x00\x01", "application/vnd.other", "application/vnd.other"),
		Entry("nothing of bytes with more commas than a manifest has values", strings.Repeat(",", 100_001), "application/vnd.other", "application/vnd.other"),
		Entry("nothing of bytes with more brackets than a manifest nests", strings.Repeat("[", 65), "application/vnd.other", "application/vnd.other"),
		Entry("an index without a type", `{"schemaVersion":2,"manifests":[`+descriptor("m", "")+`]}`, "application/json", manifest.OCIIndex, "m"),
		Entry("an image without a type", `{"schemaVersion":2,"layers":[]}`, "", manifest.OCIManifest),
		Entry("the type that it was sent with", `{}`, "application/vnd.other", "application/vnd.other"),
		Entry("its own type before that", `{"mediaType":"a/own"}`, "application/vnd.other", "a/own"),
		Entry("layers that are elsewhere", image+`"layers":[`+descriptor("l", `,"urls":["https://example.com"]`)+`]}`, "", manifest.OCIManifest),
		Entry("a subject", image+`"subject":`+descriptor("s", "")+`}`, "", manifest.OCIManifest),
		Entry("names to the letter", image+`"Layers":[`+descriptor("l", "")+`]}`, "", manifest.OCIManifest),
		Entry("digests that are none", image+`"layers":[{"digest":"sha256:12"},{"digest":"../../etc"}]}`, "", manifest.OCIManifest),
	)

	DescribeTable("tells what all who read a manifest find in it", func(content string, explicit bool) {
		info, err := manifest.Parse([]byte(content), manifest.OCIManifest)
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Explicit).To(Equal(explicit))
	},
		Entry("its type", image+`"layers":[]}`, true),
		Entry("no type", `{"layers":[]}`, false),
		Entry("two types", image+`"mediaType":"a/b"}`, false),
		Entry("two lists of layers", image+`"layers":[],"layers":[]}`, false),
		Entry("a layer of two digests", image+`"layers":[{"digest":"a","digest":"b"}]}`, false),
		Entry("layers that only some take for those", image+`"Layers":[`+descriptor("l", "")+`]}`, false),
		Entry("layers that only some take others for", image+`"layers":[`+descriptor("l", "")+`],"Layers":[]}`, false),
		Entry("a letter that only some take for another", image+`"layers":[`+descriptor("l", "")+`],"layer\u017f":[]}`, false),
		Entry("a layer of which only some take another digest", image+`"layers":[`+descriptor("l", `,"Digest":"b"`)+`]}`, false),
		Entry("a type that only some take another for", image+`"MediaType":"a/b"}`, false),
		Entry("a configuration of which only some take another digest", image+`"config":{"DIGEST":"b"}}`, false),
		Entry("a name that is ours, as a value", image+`"annotations":{"a":{"b":"Layers"}},"x":"LAYERS"}`, true),
		Entry("what nobody reads, twice", image+`"annotations":{"a":"b","a":"c"}}`, true),
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
		Entry("an image with the fields of none", `{"mediaType":"`+manifest.OCIManifest+`","layers":1}`, "a/b"),
		Entry("what is sent as an image, with the fields of none", `{"layers":1}`, manifest.OCIManifest),
		Entry("what is not JSON", `<html>`),
		Entry("what is not an object", `[]`),
		Entry("an error", `{"errors":[{"code":"UNKNOWN"}]}`, "application/json"),
		Entry("an empty object of no type", `{"schemaVersion":2}`),
		Entry("too many values, of any kind", `{"layers":[],"annotations":[0`+strings.Repeat(",0", 100_000)+`]}`),
		Entry("too many values, of an image by its type", `{"annotations":[0`+strings.Repeat(",0", 100_000)+`]}`, manifest.OCIManifest),
		Entry("too many values, of a page", strings.Repeat(",", 100_001), "text/html"),
		Entry("too many values, of schema 1", strings.Repeat(",", 100_001), "application/vnd.docker.distribution.manifest.v1+json"),
		Entry("too many descriptors", image+`"blobs":[{}`+strings.Repeat(",{}", 50_000)+`]}`),
		Entry("layers that are none", image+`"layers":[1]}`),
		Entry("endless nesting", `{"layers":[],"a":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`}`),
	)

	It("does not take brackets and commas in strings for nesting and values", func() {
		_, err := manifest.Parse([]byte(`{"layers":[],"annotations":{"a":"`+strings.Repeat(`[\",{`, 200_000)+`"}}`), "")
		Expect(err).NotTo(HaveOccurred())
	})

	It("takes as many layers as a manifest may need, with all that real ones say", func() {
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
