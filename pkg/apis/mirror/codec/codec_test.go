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

	DescribeTable("reports unknown and duplicate fields, and decodes the others",
		func(fields, message string) {
			c, err := codec.New()
			Expect(err).NotTo(HaveOccurred())
			raw := &runtime.RawExtension{Raw: []byte(`{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig",` + fields + `}`)}
			config, err := c.DecodeConfigStrict(raw)
			Expect(err).To(And(Satisfy(runtime.IsStrictDecodingError), MatchError(ContainSubstring(message))))
			Expect(config.Mirrors).To(HaveLen(1))
			lenient, err := c.DecodeConfig(raw)
			Expect(err).NotTo(HaveOccurred())
			Expect(lenient).To(Equal(config))
		},
		Entry("unknown", `"x":1,"mirrors":[{"upstream":"docker.io"}]`, `unknown field "x"`),
		Entry("unknown in a host", `"mirrors":[{"upstream":"docker.io","hosts":[{"host":"https://a","skipVerify":true}]}]`, `unknown field "mirrors[0].hosts[0].skipVerify"`),
		Entry("another case", `"mirrors":[{"Upstream":"docker.io"}]`, `unknown field "mirrors[0].Upstream"`),
		Entry("duplicate", `"mirrors":[{"upstream":"docker.io","upstream":"quay.io"}]`, `duplicate field "mirrors[0].upstream"`),
	)

	DescribeTable("refuses documents of other kinds and versions",
		func(document string) {
			c, err := codec.New()
			Expect(err).NotTo(HaveOccurred())
			for _, decode := range []func(*runtime.RawExtension) (*mirror.MirrorConfig, error){c.DecodeConfig, c.DecodeConfigStrict} {
				_, err = decode(&runtime.RawExtension{Raw: []byte(document)})
				Expect(err).To(HaveOccurred())
				Expect(runtime.IsStrictDecodingError(err)).To(BeFalse())
			}
		},
		Entry("nothing", ``),
		Entry("null", `null`),
		Entry("no type", `{"mirrors":[{"upstream":"docker.io"}]}`),
		Entry("Go's field names", `{"Mirrors":[{"Upstream":"docker.io"}]}`),
		Entry("the internal version", `{"apiVersion":"mirror.extensions.gardener.cloud/__internal","kind":"MirrorConfig","Mirrors":[{"Upstream":"docker.io"}]}`),
		Entry("another version", `{"apiVersion":"mirror.extensions.gardener.cloud/v1","kind":"MirrorConfig"}`),
		Entry("another kind", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig"}`),
		Entry("a wrong type of a field", `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":{}}`),
		Entry("YAML", "apiVersion: mirror.extensions.gardener.cloud/v1alpha1\nkind: MirrorConfig\n"),
	)

	DescribeTable("refuses expensive documents",
		func(document, message string) {
			c, err := codec.New()
			Expect(err).NotTo(HaveOccurred())
			_, err = c.DecodeConfig(&runtime.RawExtension{Raw: []byte(document)})
			Expect(err).To(MatchError(ContainSubstring(message)))
		},
		Entry("a number", `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[{"upstream":1e999999999}]}`, "mirrors[0].upstream: Invalid value"),
		Entry("too many mirrors", `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[`+strings.Repeat(`{},`, 1000)+`{}]}`, "mirrors: Invalid value: the list has more than 250 items"),
		Entry("too many hosts", `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[{"hosts":[`+strings.Repeat(`{},`, 1000)+`{}]}]}`, "mirrors[0].hosts: Invalid value: the list has more than 250 items"),
		Entry("deep nesting", strings.Repeat(`{"a":`, 10_000)+"1"+strings.Repeat(`}`, 10_000), "nested more than"),
		Entry("a long text", `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[{"upstream":"`+strings.Repeat("x", 300_000)+`"}]}`, "at most 262144 bytes"),
	)
})
