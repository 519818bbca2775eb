// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package imagevector_test

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/gardener/gardener/pkg/utils/imagevector"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	larder "github.com/larder-project/larder/imagevector"
)

var _ = Describe("ImageVector", func() {
	overwriteWith := func(content string) {
		GinkgoHelper()
		file := filepath.Join(GinkgoT().TempDir(), "images_overwrite.yaml")
		Expect(os.WriteFile(file, []byte(content), 0o600)).To(Succeed())
		GinkgoT().Setenv(imagevector.OverrideEnv, file)
	}

	It("returns the image of the cache server in this version", func() {
		GinkgoT().Setenv(imagevector.OverrideEnv, "")
		version, err := os.ReadFile("../VERSION")
		Expect(err).NotTo(HaveOccurred())

		images, err := larder.ImageVector()
		Expect(err).NotTo(HaveOccurred())
		image, err := images.FindImage(larder.RegistryCacheServer)
		Expect(err).NotTo(HaveOccurred())
		Expect(image.String()).To(Equal("ghcr.io/larder-project/registry-cache-server:" + strings.TrimSpace(string(version))))
	})

	It("prefers the operator's image", func() {
		overwriteWith("images: [{name: registry-cache-server, ref: larder.test/registry-cache-server:abc}]")

		images, err := larder.ImageVector()
		Expect(err).NotTo(HaveOccurred())
		image, err := images.FindImage(larder.RegistryCacheServer)
		Expect(err).NotTo(HaveOccurred())
		Expect(image.String()).To(Equal("larder.test/registry-cache-server:abc"))
	})

	It("keeps the tag if the operator replaces only the repository", func() {
		overwriteWith("images: [{name: registry-cache-server, repository: mirror.example.com/larder/registry-cache-server}]")

		images, err := larder.ImageVector()
		Expect(err).NotTo(HaveOccurred())
		image, err := images.FindImage(larder.RegistryCacheServer)
		Expect(err).NotTo(HaveOccurred())
		Expect(image.String()).To(HavePrefix("mirror.example.com/larder/registry-cache-server:v"))
	})

	DescribeTable("refuses an invalid overwrite", func(content, message string) {
		overwriteWith(content)

		_, err := larder.ImageVector()
		Expect(err).To(MatchError(And(ContainSubstring(imagevector.OverrideEnv), ContainSubstring(message))))
	},
		Entry("not YAML", "images: [", "yaml"),
		Entry("neither ref nor repository", "images: [{name: registry-cache-server}]", "images[0]"),
	)

	It("names the variable if its file does not exist", func() {
		GinkgoT().Setenv(imagevector.OverrideEnv, "/nowhere/images.yaml")

		_, err := larder.ImageVector()
		Expect(err).To(MatchError(And(ContainSubstring(imagevector.OverrideEnv), ContainSubstring("/nowhere/images.yaml"))))
	})
})
