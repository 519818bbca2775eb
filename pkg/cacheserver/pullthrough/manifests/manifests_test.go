// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	name = enginetest.Name
	mib  = 1 << 20
)

var _ = Describe("Manifests", func() {
	enginetest.ExpectNoLeaks()

	It("fetches a manifest that cannot be stored once, and serves it in an outage", func(ctx context.Context) {
		disk := &enginetest.SmallDisk{}
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Disk = disk })
		image := upstreamsim.RandomImage(1, 1, 100)
		c.Upstream.Push(name, "v1", image)
		for range 3 {
			Expect(c.Pull(name, "v1")).To(Succeed())
		}
		Expect(c.Upstream.Counters().Total(upstreamsim.ManifestGet)).To(Equal(1))
		manifest := "/v2/" + name + "/manifests/v1"
		c.Upstream.Refuse()
		response, _ := c.Get(ctx, manifest, http.Header{"Accept": {imagev1.MediaTypeImageManifest}})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		Expect(c.Upstream.Accept()).To(Succeed())

		disk.Left.Store(1 << 40)
		Eventually(func() error {
			Expect(c.Pull(name, "v1")).To(Succeed())
			_, err := os.Stat(c.BlobPath(image.Digest()))
			return err
		}).Should(Succeed())
		c.Upstream.Refuse()
		c.Restart(nil)
		Expect(c.Pull(name, "v1")).To(Succeed(), "it is stored now")
	})

	It("fetches a corrupt manifest once, even without an index", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		c.Upstream.Push(name, "v1", image)
		Expect(c.Pull(name, "v1")).To(Succeed())
		c.Stop()
		Expect(os.RemoveAll(filepath.Join(c.Root, "pullthrough"))).To(Succeed())
		Expect(os.WriteFile(filepath.Join(c.Root, "pullthrough"), []byte("no directory for an index"), 0o600)).To(Succeed())
		Expect(os.WriteFile(c.BlobPath(image.Digest()), []byte("rot"), 0o600)).To(Succeed())
		c.Upstream.ResetCounters()
		for range 2 {
			c.Start(nil)
			_, err := c.Client.Manifest(ctx, name, image.Digest().String())
			Expect(err).NotTo(HaveOccurred())
			Expect(c.Upstream.Counters().Total(upstreamsim.ManifestGet)).To(Equal(1))
			c.Stop()
		}
	})

	It("refuses a manifest with too many values, and names the upstream", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		c.Upstream.PushManifest(name, "bomb", upstreamsim.Content{
			MediaType: imagev1.MediaTypeImageManifest,
			Data:      []byte(`{"schemaVersion":2,"blobs":[{}` + strings.Repeat(",{}", 1_000_000) + `]}`),
		})
		response, body := c.Get(ctx, "/v2/"+name+"/manifests/bomb", http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusBadGateway))
		Expect(string(body)).To(ContainSubstring("too many values"))
	})
})

var _ = DescribeTable("Manifests are negotiated as in Distribution", func(accept []string, list bool, status int, mediaType string) {
	c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
	image := upstreamsim.RandomImage(1, 1, 100)
	c.Upstream.Push(name, "v1", image)
	if list {
		c.Upstream.PushManifest(name, "v1", upstreamsim.NewIndex(image))
	}
	request, err := http.NewRequest(http.MethodGet, c.Server.URL+"/v2/"+name+"/manifests/v1", nil)
	Expect(err).NotTo(HaveOccurred())
	request.Header["Accept"] = accept
	response, err := http.DefaultClient.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	Expect(response.StatusCode).To(Equal(status))
	if status == http.StatusOK {
		Expect(response.Header.Get("Content-Type")).To(Equal(mediaType))
	}
},
	Entry("accepted", []string{"application/vnd.oci.image.manifest.v1+json"}, false, http.StatusOK, "application/vnd.oci.image.manifest.v1+json"),
	Entry("accepted among others", []string{"a/b", "text/html, application/vnd.oci.image.index.v1+json;q=0.5"}, true, http.StatusOK, "application/vnd.oci.image.index.v1+json"),
	Entry("plain JSON", []string{"*/*"}, false, http.StatusOK, "application/vnd.oci.image.manifest.v1+json"),
	Entry("no Accept header", nil, true, http.StatusOK, "application/vnd.oci.image.index.v1+json"),
	Entry("not accepted", []string{"application/vnd.docker.distribution.manifest.v2+json"}, false, http.StatusNotFound, ""),
)
