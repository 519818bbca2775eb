// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/codec"
)

var _ = Describe("Codec", func() {
	It("decodes configurations, with defaults", func() {
		c, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		config, err := c.DecodeConfig(&runtime.RawExtension{Raw: []byte(`{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[
			{"upstream":"docker.io","hosts":[{"host":"https://a"},{"host":"https://b","capabilities":["resolve"],"caBundleSecretReferenceName":"ca","overridePath":true}]}]}`)})
		Expect(err).NotTo(HaveOccurred())
		Expect(config.Mirrors).To(ConsistOf(mirror.Mirror{Upstream: "docker.io", Hosts: []mirror.Host{
			{Host: "https://a", Capabilities: []mirror.Capability{mirror.Pull}},
			{Host: "https://b", Capabilities: []mirror.Capability{mirror.Resolve}, CABundleSecretReferenceName: ptr.To("ca"), OverridePath: ptr.To(true)},
		}}))
	})
})
