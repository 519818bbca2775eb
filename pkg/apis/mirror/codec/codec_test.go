// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/codec"
)

var _ = Describe("Codec", func() {
	It("decodes configurations and sets defaults", func() {
		c, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		config, err := c.DecodeConfig(&runtime.RawExtension{Raw: []byte(`{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[
			{"upstream":"docker.io","hosts":[{"host":"https://a"},{"host":"https://b","capabilities":["resolve"],"caBundleSecretReferenceName":"ca","overridePath":true}]}]}`)})
		Expect(err).NotTo(HaveOccurred())
		Expect(config.Mirrors).To(ConsistOf(mirror.Mirror{Upstream: "docker.io", Hosts: []mirror.Host{
			{Host: "https://a", Capabilities: []mirror.Capability{mirror.Pull}},
			{Host: "https://b", Capabilities: []mirror.Capability{mirror.Resolve}, CABundleSecretReferenceName: new("ca"), OverridePath: new(true)},
		}}))
	})

	DescribeTable("refuses expensive documents",
		func(document, message string) {
			c, err := codec.New()
			Expect(err).NotTo(HaveOccurred())
			_, err = c.DecodeConfig(&runtime.RawExtension{Raw: []byte(document)})
			Expect(err).To(MatchError(ContainSubstring(message)))
		},
		Entry("a number", `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[{"upstream":1e999999999}]}`, "mirrors[0].upstream: Invalid value"),
		Entry("too many mirrors", `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[`+strings.Repeat(`{},`, 1000)+`{}]}`, "mirrors: Invalid value: the list has more than 250 items"),
		Entry("a long text", `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[{"upstream":"`+strings.Repeat("x", 300_000)+`"}]}`, "at most 262144 bytes"),
	)
})
