// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package garden

import (
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/parts"
)

var _ = Describe("The example Shoot", func() {
	It("supports any caches, and none", func() {
		l, err := landscape.Open()
		Expect(err).NotTo(HaveOccurred())
		shoot, err := Shoot(l, Cache(PrivateHost), Cache(BasicHost))
		Expect(err).NotTo(HaveOccurred())
		configs, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		config, err := configs.DecodeConfigStrict(shoot.Spec.Extensions[0].ProviderConfig)
		Expect(err).NotTo(HaveOccurred())
		Expect(config.Caches).To(HaveLen(2))
		Expect(shoot.Spec.Resources).To(HaveLen(1))

		shoot, err = Shoot(l)
		Expect(err).NotTo(HaveOccurred())
		Expect(shoot.Spec.Extensions).To(BeEmpty())
		Expect(shoot.Spec.Resources).To(BeEmpty())
	})
})

var _ = Describe("charts", func() {
	It("renders them with the landscape's images", func() {
		l, err := landscape.Open()
		Expect(err).NotTo(HaveOccurred())
		images := map[string]string{parts.Extension: "a:1", parts.Admission: "b:2", parts.CacheServer: "c:3", parts.PullSecrets: "d:4"}

		deployed := map[string]string{}
		for _, chart := range charts(l, images) {
			objects, err := chart.render("v1.36.3")
			Expect(err).NotTo(HaveOccurred(), filepath.Base(chart.dir))
			for _, object := range objects {
				if object.GetKind() == "Deployment" {
					containers := object.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)
					deployed[object.GetName()] = containers[0].(map[string]any)["image"].(string)
				}
			}
		}
		Expect(deployed).To(Equal(map[string]string{extensionName: "a:1", admissionName: "b:2"}))
	})
})
