// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/landscape/image"
)

var _ = Describe("New", func() {
	var binary string

	BeforeEach(func() {
		binary = filepath.Join(GinkgoT().TempDir(), "program")
		Expect(os.WriteFile(binary, []byte("content"), 0o600)).To(Succeed())
	})

	It("creates an image of one layer that runs the binary as an ordinary user", func() {
		made, err := image.New(binary, []byte("certificates"))
		Expect(err).NotTo(HaveOccurred())
		config, err := made.ConfigFile()
		Expect(err).NotTo(HaveOccurred())
		Expect(config.Config.Entrypoint).To(Equal([]string{"/program"}))
		Expect(config.Config.User).To(Equal("65532:65532"))
		Expect(config.OS).To(Equal("linux"))

		layers, err := made.Layers()
		Expect(err).NotTo(HaveOccurred())
		Expect(layers).To(HaveLen(1))
		content, err := layers[0].Uncompressed()
		Expect(err).NotTo(HaveOccurred())
		found := map[string]string{}
		modes := map[string]int64{}
		for archive := tar.NewReader(content); ; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			Expect(err).NotTo(HaveOccurred())
			file, err := io.ReadAll(archive)
			Expect(err).NotTo(HaveOccurred())
			found[header.Name], modes[header.Name] = string(file), header.Mode
		}
		Expect(found).To(HaveKeyWithValue("program", "content"))
		Expect(found).To(HaveKeyWithValue("etc/ssl/certs/ca-certificates.crt", "certificates"))
		Expect(found).To(HaveKeyWithValue("etc/passwd", ContainSubstring("nonroot:x:65532:65532:")))
		Expect(modes).To(HaveKeyWithValue("program", int64(0o755)))
		Expect(modes).To(HaveKeyWithValue("tmp/", int64(0o1777)))
	})

	It("names the image after its content", func() {
		reference := func(certificates string) string {
			made, err := image.New(binary, []byte(certificates))
			Expect(err).NotTo(HaveOccurred())
			return made.Reference
		}
		Expect(reference("a")).To(MatchRegexp(`^larder\.test/program:[0-9a-f]{12}$`))
		Expect(reference("a")).To(Equal(reference("a")))
		Expect(reference("a")).NotTo(Equal(reference("b")))
	})

	It("fails without the binary", func() {
		_, err := image.New(binary+"-missing", nil)
		Expect(err).To(MatchError(os.ErrNotExist))
	})
})
