// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blobs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	name = enginetest.Name
	mib  = 1 << 20
)

// unsized is a proxy that takes the Content-Length from all answers.
func unsized(target string) *httptest.Server {
	remote, err := url.Parse(target)
	Expect(err).NotTo(HaveOccurred())
	proxy := httputil.NewSingleHostReverseProxy(remote)
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(r *http.Response) error {
		r.Header.Del("Content-Length")
		r.ContentLength = -1
		return nil
	}
	return httptest.NewServer(proxy)
}

var _ = Describe("Blobs", func() {
	enginetest.ExpectNoLeaks()

	It("responds like Distribution: ranges, validators, headers", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100_000)
		c.Upstream.Push(name, "v1", image)
		layer := image.Layers()[0]
		path := "/v2/" + name + "/blobs/" + layer.Descriptor().Digest.String()
		head, err := c.Client.Do(ctx, http.MethodHead, path, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(head.Body.Close()).To(Succeed())
		Expect(head.ContentLength).To(BeEquivalentTo(100_000))
		Expect(head.Header.Get("Accept-Ranges")).To(Equal("bytes"))
		for _, state := range []string{"cold", "warm"} {
			response, body := c.Get(ctx, path, http.Header{"Range": {"bytes=10-19"}})
			Expect(response.StatusCode).To(Equal(http.StatusPartialContent), state)
			Expect(response.Header.Get("Content-Range")).To(Equal("bytes 10-19/100000"), state)
			Expect(body).To(Equal(layer.Data[10:20]), state)
		}
		response, body := c.Get(ctx, path, http.Header{})
		Expect(body).To(Equal(layer.Data))
		Expect(response.Header).To(And(
			HaveKeyWithValue("Content-Type", []string{"application/octet-stream"}),
			HaveKeyWithValue("Docker-Content-Digest", []string{layer.Descriptor().Digest.String()}),
			HaveKeyWithValue("Etag", []string{`"` + layer.Descriptor().Digest.String() + `"`}),
			HaveKeyWithValue("Cache-Control", []string{"max-age=31536000"}),
			HaveKeyWithValue("Content-Length", []string{"100000"}),
			HaveKeyWithValue("Docker-Distribution-Api-Version", []string{"registry/2.0"}),
		))
		response, _ = c.Get(ctx, path, http.Header{"If-None-Match": {response.Header.Get("Etag")}})
		Expect(response.StatusCode).To(Equal(http.StatusNotModified))
		response, _ = c.Get(ctx, path, http.Header{"Range": {"bytes=200000-"}})
		Expect(response.StatusCode).To(Equal(http.StatusRequestedRangeNotSatisfiable))
	})

	It("does not serve the content of one repository from another", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		shared := upstreamsim.NewLayer(1, mib)
		c.Upstream.Push("team/private", "v1", upstreamsim.NewImage(shared))
		c.Upstream.Push("team/other", "v1", upstreamsim.NewImage(shared, upstreamsim.NewLayer(2, 10)))
		Expect(c.Pull("team/private", "v1")).To(Succeed())
		path := "/blobs/" + shared.Descriptor().Digest.String()
		response, _ := c.Get(ctx, "/v2/team/thief"+path, http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
		c.Upstream.ResetCounters()
		Expect(c.Pull("team/other", "v1")).To(Succeed())
		Expect(c.Upstream.Counters().Bytes).To(BeNumerically("<", mib), "what both need is fetched once")
		Expect(c.Upstream.Counters().Total(upstreamsim.BlobHead)).To(BeZero(), "its manifest is proof enough")
	})

	It("does not trust a layer that looks like a manifest", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.NewLayer(1, mib)
		c.Upstream.Push("team/private", "v1", upstreamsim.NewImage(private))
		Expect(c.Pull("team/private", "v1")).To(Succeed())
		forged := upstreamsim.NewLayer(2, 10)
		forged.Data = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{"digest":"` + private.Descriptor().Digest.String() + `"}]}`)
		c.Upstream.Push("team/thief", "v1", upstreamsim.NewImage(forged))
		Expect(c.Pull("team/thief", "v1")).To(Succeed())
		for _, content := range []upstreamsim.Content{private, forged} {
			Eventually(c.BlobPath).WithArguments(content.Descriptor().Digest).Should(BeAnExistingFile(), "it is stored after it was sent")
		}

		response, _ := c.Get(ctx, "/v2/team/thief/manifests/"+forged.Descriptor().Digest.String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
		response, _ = c.Get(ctx, "/v2/team/thief/blobs/"+private.Descriptor().Digest.String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
	})

	It("does not trust an index to prove what a repository has", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.RandomImage(1, 1, mib)
		c.Upstream.Push("team/private", "v1", private)
		Expect(c.Pull("team/private", "v1")).To(Succeed())
		var sparse imagev1.Index
		Expect(json.Unmarshal(upstreamsim.NewIndex(private).Data, &sparse)).To(Succeed())
		sparse.Manifests = append(sparse.Manifests, private.Layers()[0].Descriptor())
		data, err := json.Marshal(sparse)
		Expect(err).NotTo(HaveOccurred())
		c.Upstream.PushManifest("team/thief", "v1", upstreamsim.Content{MediaType: imagev1.MediaTypeImageIndex, Data: data})
		response, _ := c.Get(ctx, "/v2/team/thief/manifests/v1", http.Header{"Accept": {imagev1.MediaTypeImageIndex}})
		Expect(response.StatusCode).To(Equal(http.StatusOK))

		for _, path := range []string{"manifests/" + private.Digest().String(), "blobs/" + private.Layers()[0].Descriptor().Digest.String()} {
			response, _ := c.Get(ctx, "/v2/team/thief/"+path, http.Header{})
			Expect(response.StatusCode).To(Equal(http.StatusNotFound), path)
		}
	})

	It("does not trust an image manifest that the upstream may parse differently", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.NewLayer(1, mib)
		c.Upstream.Push("team/private", "v1", upstreamsim.NewImage(private))
		Expect(c.Pull("team/private", "v1")).To(Succeed())
		forged := upstreamsim.NewImage(private).Manifest
		forged.Data = append(bytes.TrimSuffix(forged.Data, []byte("}")), `,"Layers":[]}`...)
		read, _, err := distribution.UnmarshalManifest(forged.MediaType, forged.Data)
		Expect(err).NotTo(HaveOccurred())
		Expect(read.References()).NotTo(ContainElement(HaveField("Digest", private.Descriptor().Digest)), "as Distribution reads it")
		c.Upstream.PushManifest("team/thief", "v1", forged)
		response, _ := c.Get(ctx, "/v2/team/thief/manifests/v1", http.Header{"Accept": {forged.MediaType}})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		response, _ = c.Get(ctx, "/v2/team/thief/blobs/"+private.Descriptor().Digest.String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
	})

	DescribeTable("does not trust an image manifest that was sent as another type", func(ctx context.Context, sentAs string) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.NewLayer(1, mib)
		c.Upstream.Push("team/private", "v1", upstreamsim.NewImage(private))
		Expect(c.Pull("team/private", "v1")).To(Succeed())
		forged := upstreamsim.NewImage(private).Manifest
		c.Upstream.PushManifest("team/thief", "v1", upstreamsim.Content{MediaType: sentAs, Data: forged.Data})
		manifest, layer := "/v2/team/thief/manifests/v1", "/v2/team/thief/blobs/"+private.Descriptor().Digest.String()
		ask := func() {
			GinkgoHelper()
			response, body := c.Get(ctx, manifest, http.Header{"Accept": {forged.MediaType}})
			Expect(response.StatusCode).To(Equal(http.StatusOK))
			Expect(response.Header.Get("Content-Type")).To(Equal(forged.MediaType))
			Expect(body).To(Equal(forged.Data))
			response, _ = c.Get(ctx, layer, http.Header{})
			Expect(response.StatusCode).To(Equal(http.StatusNotFound))
		}
		ask()
		c.Stop()
		known, err := index.Open(filepath.Join(c.Root, "pullthrough/index.db"), time.Now)
		Expect(err).NotTo(HaveOccurred())
		var parents []digest.Digest
		Expect(known.Parents(private.Descriptor().Digest, func(d digest.Digest) bool {
			parents = append(parents, d)
			return true
		})).To(Succeed())
		Expect(known.Close()).To(Succeed())
		Expect(parents).To(ContainElement(forged.Descriptor().Digest), "its use keeps what it needs all the same")

		By("after a rebuild of the index, which loses the Content-Type of the response")
		Expect(os.RemoveAll(filepath.Join(c.Root, "pullthrough"))).To(Succeed())
		c.Start(nil)
		Eventually(func() float64 { return c.Value("storage_used_bytes") }).Should(BeNumerically(">", mib))
		ask()
	},
		Entry("an index", imagev1.MediaTypeImageIndex),
		Entry("an artifact of its own type", "application/vnd.example"),
		Entry("plain JSON", "application/json"),
	)

	Describe("Manifests without a media type", func() {
		const example = "application/vnd.example"
		var (
			c       *enginetest.Cache
			private upstreamsim.Image
		)
		untyped := func(content upstreamsim.Content) upstreamsim.Content {
			GinkgoHelper()
			var document map[string]any
			Expect(json.Unmarshal(content.Data, &document)).To(Succeed())
			delete(document, "mediaType")
			data, err := json.Marshal(document)
			Expect(err).NotTo(HaveOccurred())
			return upstreamsim.Content{MediaType: content.MediaType, Data: data}
		}
		typeIn := func(ctx context.Context, repository string) string {
			GinkgoHelper()
			response, _ := c.Get(ctx, "/v2/"+repository+"/manifests/v1", http.Header{"Accept": {example, imagev1.MediaTypeImageManifest, imagev1.MediaTypeImageIndex}})
			Expect(response.StatusCode).To(Equal(http.StatusOK))
			return response.Header.Get("Content-Type")
		}
		statusOfLayer := func(ctx context.Context, repository string) int {
			GinkgoHelper()
			response, _ := c.Get(ctx, "/v2/"+repository+"/blobs/"+private.Layers()[0].Descriptor().Digest.String(), http.Header{})
			return response.StatusCode
		}

		BeforeEach(func() {
			c = enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
			private = upstreamsim.RandomImage(1, 1, mib)
			private.Manifest = untyped(private.Manifest)
			c.Upstream.Push("team/private", "v1", private)
		})

		It("have the type that each repository sent them as, and prove nothing", func(ctx context.Context) {
			c.Upstream.PushManifest("team/thief", "v1", upstreamsim.Content{MediaType: example, Data: private.Manifest.Data})
			Expect(typeIn(ctx, "team/thief")).To(Equal(example))
			Expect(c.Pull("team/private", "v1")).To(Succeed())
			Expect(statusOfLayer(ctx, "team/thief")).To(Equal(http.StatusNotFound))

			c.Restart(nil)
			Expect(typeIn(ctx, "team/private")).To(Equal(imagev1.MediaTypeImageManifest))
			Expect(typeIn(ctx, "team/thief")).To(Equal(example))
		})

		It("prove nothing by their type in another repository", func(ctx context.Context) {
			Expect(c.Pull("team/private", "v1")).To(Succeed())
			own := upstreamsim.RandomImage(2, 1, 100)
			var document map[string]any
			Expect(json.Unmarshal(untyped(own.Manifest).Data, &document)).To(Succeed())
			document["manifests"] = []imagev1.Descriptor{private.Layers()[0].Descriptor()}
			both, err := json.Marshal(document)
			Expect(err).NotTo(HaveOccurred())
			own.Manifest = upstreamsim.Content{MediaType: imagev1.MediaTypeImageManifest, Data: both}
			c.Upstream.Push("team/thief", "v1", own)
			c.Upstream.PushManifest("team/thief/list", "v1", upstreamsim.Content{MediaType: imagev1.MediaTypeImageIndex, Data: both})
			Expect(typeIn(ctx, "team/thief/list")).To(Equal(imagev1.MediaTypeImageIndex))
			Expect(typeIn(ctx, "team/thief")).To(Equal(imagev1.MediaTypeImageManifest))
			Expect(statusOfLayer(ctx, "team/thief")).To(Equal(http.StatusNotFound))
		})
	})

	It("does not let a repository join the fetch of a blob that it does not have", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.NewLayer(1, mib)
		c.Upstream.Push("team/private", "v1", upstreamsim.NewImage(private))
		c.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, Times: 1, PauseAfter: mib / 2})
		path := "/blobs/" + private.Descriptor().Digest.String()
		var pulling sync.WaitGroup
		pulling.Go(func() {
			defer GinkgoRecover()
			response, body := c.Get(ctx, "/v2/team/private"+path, http.Header{})
			Expect(response.StatusCode).To(Equal(http.StatusOK))
			Expect(body).To(HaveLen(mib))
		})
		defer pulling.Wait()
		defer c.Upstream.Misbehave(upstreamsim.Faults{})
		Eventually(func() float64 { return c.Value("pulled_bytes_total") }).Should(BeNumerically(">", 0))
		response, _ := c.Get(ctx, "/v2/team/thief"+path, http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
	})

	It("serves the whole blob for a request for several ranges while it is fetched", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		layer := upstreamsim.NewLayer(1, mib)
		c.Upstream.Push(name, "v1", upstreamsim.NewImage(layer))
		response, body := c.Get(ctx, "/v2/"+name+"/blobs/"+layer.Descriptor().Digest.String(), http.Header{"Range": {"bytes=0-9,100-109"}})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		Expect(bytes.Equal(body, layer.Data)).To(BeTrue())
	})

	It("does not serve an empty response as a blob", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		layer := upstreamsim.NewLayer(1, mib)
		c.Upstream.Push(name, "v1", upstreamsim.NewImage(layer))
		c.Upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, Short: mib})
		response, _ := c.Get(ctx, "/v2/"+name+"/blobs/"+layer.Descriptor().Digest.String(), http.Header{})
		Expect(response.StatusCode).To(BeNumerically(">=", 500))
	})

	It("streams a blob that does not fit on the disk to several clients, and stores it once there is room", func() {
		disk := &enginetest.SmallDisk{}
		disk.Left.Store(3 * mib)
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Disk = disk })
		c.Upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 10*mib))
		var done sync.WaitGroup
		for range 4 {
			done.Go(func() {
				defer GinkgoRecover()
				Expect(c.Pull(name, "v1")).To(Succeed())
			})
		}
		done.Wait()
		Eventually(func() float64 { return c.Value("unstored_total") }).Should(BeNumerically(">=", 1))
		Eventually(filepath.Glob).WithArguments(filepath.Join(c.Root, "docker/registry/v2/repositories/library/app/_uploads/*")).
			Should(BeEmpty(), "clients have everything before a fetch ends")
		disk.Left.Store(1 << 40)
		Expect(c.Pull(name, "v1")).To(Succeed())
		c.Upstream.Refuse()
		Eventually(func() error { return c.Pull(name, "v1") }).Should(Succeed())
	})

	It("does not evict for bytes that are written already", func(ctx context.Context) {
		disk := &enginetest.HonestDisk{Total: 25 * mib}
		disk.Left.Store(disk.Total)
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Disk, o.HighWatermark = disk, 1 })
		layers := []upstreamsim.Content{upstreamsim.NewLayer(1, 12*mib), upstreamsim.NewLayer(2, 8*mib)}
		c.Upstream.Push(name, "v1", upstreamsim.NewImage(layers...))
		c.Upstream.Push(name, "v0", upstreamsim.RandomImage(3, 1, mib))
		Expect(c.Pull(name, "v0")).To(Succeed())

		c.Upstream.Misbehave(upstreamsim.Faults{Times: 1, HangAfter: 9 * mib})
		var pulling sync.WaitGroup
		pulling.Go(func() {
			defer GinkgoRecover()
			Expect(c.Client.Blob(ctx, name, layers[0].Descriptor().Digest)).To(BeEquivalentTo(12 * mib))
		})
		defer pulling.Wait()
		defer c.Upstream.Misbehave(upstreamsim.Faults{})
		Eventually(disk.Left.Load).Should(BeNumerically("<", 16*mib))
		Expect(c.Client.Blob(ctx, name, layers[1].Descriptor().Digest)).To(BeEquivalentTo(8 * mib))
		Expect(c.Value("removed_total")).To(BeZero())
		Expect(c.Value("unstored_total")).To(BeZero())
	})

	It("evicts from a real volume, and streams through one that stays full", func() {
		root := GinkgoT().TempDir()
		if err := unix.Mount("larder-test", root, "tmpfs", 0, "size=24m"); err != nil {
			Skip("no small file system can be mounted, which not even root can in many containers: " + err.Error())
		}
		DeferCleanup(func() { Expect(unix.Unmount(root, unix.MNT_DETACH)).To(Succeed()) })
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.RootDirectory = root })
		c.Root = root
		c.Restart(nil)
		for i := range uint64(6) {
			tag := fmt.Sprintf("v%d", i)
			c.Upstream.Push(name, tag, upstreamsim.RandomImage(i, 1, 6*mib))
			Expect(c.Pull(name, tag)).To(Succeed())
		}
		latest := upstreamsim.RandomImage(5, 1, 6*mib).Layers()[0].Descriptor().Digest
		Eventually(c.BlobPath).WithArguments(latest).Should(BeAnExistingFile(), "it is stored after it was sent")
		c.Upstream.Push(name, "large", upstreamsim.RandomImage(9, 1, 40*mib))
		Expect(c.Pull(name, "large")).To(Succeed())
		Expect(c.Value("removed_total", "reason", "evicted")).To(BeNumerically(">", 0))
		c.Upstream.Refuse()
		Expect(c.Pull(name, "v5")).To(Succeed(), "the latest is still there")
		Expect(c.Pull(name, "v0")).NotTo(Succeed())
	})

	It("verifies a large file while it sends it, and breaks off if it is corrupt", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 80*mib)
		c.Upstream.Push(name, "v1", image)
		Expect(c.Pull(name, "v1")).To(Succeed())
		layer := image.Layers()[0].Descriptor().Digest
		c.Restart(nil) // Waits for the commit.
		awaitTick(c.BlobPath(layer))
		file, err := os.OpenFile(c.BlobPath(layer), os.O_WRONLY, 0)
		Expect(err).NotTo(HaveOccurred())
		_, err = file.WriteAt([]byte("rot"), 70*mib)
		Expect(err).NotTo(HaveOccurred())
		Expect(file.Close()).To(Succeed())
		_, err = c.Client.Blob(ctx, name, layer)
		Expect(err).To(HaveOccurred())
		Expect(err).NotTo(MatchError(pull.ErrWrongContent), "it must not look complete")
		Expect(c.Client.Blob(ctx, name, layer)).To(BeEquivalentTo(80 * mib))
		Expect(c.Value("corrupt_total")).To(BeEquivalentTo(1))
	})

	It("verifies a blob that a client asks for again", func(ctx context.Context) {
		var passed atomic.Int64
		later := func(o *pullthrough.Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
		}
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, later)
		image := upstreamsim.RandomImage(1, 1, mib)
		c.Upstream.Push(name, "v1", image)
		Expect(c.Pull(name, "v1")).To(Succeed())
		layer := image.Layers()[0].Descriptor().Digest
		c.Stop()
		path := c.BlobPath(layer)
		content, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		content[mib/2] ^= 4
		Expect(os.WriteFile(path, content, 0o600)).To(Succeed())
		rotWithoutTrace(c.Root, path, layer)
		c.Start(later)

		passed.Store(int64(2 * time.Hour))
		_, err = c.Client.Blob(ctx, name, layer)
		Expect(err).To(MatchError(pull.ErrWrongContent), "nothing tells")
		Eventually(func() float64 { return c.Value("hits_total", "type", "blob") }).Should(BeEquivalentTo(1), "it is noted after it was sent")
		Expect(c.Client.Blob(ctx, name, layer)).To(BeEquivalentTo(mib))
		Expect(c.Value("corrupt_total")).To(BeEquivalentTo(1))
		c.Upstream.ResetCounters()
		Expect(c.Client.Blob(ctx, name, layer)).To(BeEquivalentTo(mib))
		Expect(c.Upstream.Counters().Objects).To(BeEmpty())
	})

	It("disconnects a client that stops reading", func(ctx context.Context) {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 64*mib)
		c.Upstream.Push(name, "v1", image)
		Expect(c.Pull(name, "v1")).To(Succeed())
		c.Restart(func(o *pullthrough.Options) { o.ClientTimeout = 200 * time.Millisecond })
		pushed := c.Value("pushed_bytes_total")

		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Server.Listener.Addr().String())
		Expect(err).NotTo(HaveOccurred())
		defer connection.Close()
		_, err = fmt.Fprintf(connection, "GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: cache\r\n\r\n", name, image.Layers()[0].Descriptor().Digest)
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() float64 { return c.Value("pushed_bytes_total") }).Should(BeNumerically(">", pushed), "the request has ended")
		got, _ := io.Copy(io.Discard, connection)
		Expect(got).To(BeNumerically("<", 64*mib))
	})

	It("does not disconnect a client while the upstream pauses, with HTTP/2", func(ctx context.Context) {
		const timeout = 2 * time.Second
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.ClientTimeout = timeout })
		layer := upstreamsim.NewLayer(1, mib)
		c.Upstream.Push(name, "v1", upstreamsim.NewImage(layer))
		server := httptest.NewUnstartedServer(c.Engine.Handler(pullthrough.API{}, c.App))
		c.Engine.LimitClients(server.Config)
		server.EnableHTTP2 = true
		server.StartTLS()
		defer server.Close()
		c.Upstream.Misbehave(upstreamsim.Faults{Times: 1, PauseAfter: mib / 2})
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v2/"+name+"/blobs/"+layer.Descriptor().Digest.String(), nil)
		Expect(err).NotTo(HaveOccurred())
		response, err := server.Client().Do(request)
		Expect(err).NotTo(HaveOccurred())
		defer response.Body.Close()
		Expect(response.ProtoMajor).To(Equal(2))
		_, err = io.CopyN(io.Discard, response.Body, mib/4)
		Expect(err).NotTo(HaveOccurred())
		rest := make(chan int64, 1)
		go func() {
			defer GinkgoRecover()
			n, err := io.Copy(io.Discard, response.Body)
			Expect(err).NotTo(HaveOccurred())
			rest <- n
		}()
		Consistently(ctx, rest).WithTimeout(timeout*3/2).ShouldNot(Receive(), "the upstream pauses")
		c.Upstream.Misbehave(upstreamsim.Faults{})
		Eventually(ctx, rest).Should(Receive(BeEquivalentTo(mib - mib/4)))
	})

	It("works with an upstream that sends no sizes", func() {
		c := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 2, mib)
		c.Upstream.Push(name, "v1", image)
		chunked := unsized(c.Upstream.URL())
		defer chunked.Close()
		c.Restart(func(o *pullthrough.Options) { o.RemoteURL = chunked.URL })
		Expect(c.Pull(name, "v1")).To(Succeed())
		c.Upstream.Refuse()
		Eventually(func() error { return c.Pull(name, "v1") }).Should(Succeed())
	})

	Context("with an upstream whose blobs have neither size nor end", func() {
		var (
			c    *enginetest.Cache
			disk *enginetest.HonestDisk
		)

		BeforeEach(func() {
			c = enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
			sized := unsized(c.Upstream.URL())
			DeferCleanup(sized.Close)
			endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, "/blobs/") {
					sized.Config.Handler.ServeHTTP(w, r)
					return
				}
				for block := make([]byte, mib); ; {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			}))
			DeferCleanup(endless.Close)
			disk = &enginetest.HonestDisk{Total: 24 * mib}
			disk.Left.Store(disk.Total)
			c.Restart(func(o *pullthrough.Options) { o.Disk, o.RemoteURL, o.GracePeriod = disk, endless.URL, time.Millisecond })
		})

		It("does not let a blob fill the disk", func(ctx context.Context) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Server.URL+"/v2/"+name+"/blobs/"+digest.FromString("x").String(), nil)
			Expect(err).NotTo(HaveOccurred())
			response, err := http.DefaultTransport.RoundTrip(request)
			Expect(err).NotTo(HaveOccurred())
			defer response.Body.Close()
			_, err = io.CopyN(io.Discard, response.Body, 48*mib)
			Expect(err).NotTo(HaveOccurred())
			Expect(disk.Left.Load()).To(BeNumerically(">", 0))
		})

		It("receives no more than a manifest declares", func(ctx context.Context) {
			layer := upstreamsim.NewLayer(1, mib)
			c.Upstream.Push(name, "v1", upstreamsim.NewImage(layer))
			_, err := c.Client.Manifest(ctx, name, "v1")
			Expect(err).NotTo(HaveOccurred())
			n, err := c.Client.Blob(ctx, name, layer.Descriptor().Digest)
			Expect(err).To(HaveOccurred())
			Expect(n).To(BeNumerically("<", mib))
		})
	})
})

// awaitTick waits until the clock of file systems has moved on since a file was stored: what changes before that has the
// same time of change.
func awaitTick(path string) {
	GinkgoHelper()
	changed := func(path string) int64 {
		info, err := os.Stat(path)
		Expect(err).NotTo(HaveOccurred())
		_, at := store.Identity(info)
		return at
	}
	stored, probe := changed(path), filepath.Join(GinkgoT().TempDir(), "probe")
	Eventually(func() int64 {
		Expect(os.WriteFile(probe, nil, 0o600)).To(Succeed())
		return changed(probe)
	}).Should(BeNumerically(">", stored))
}

// rotWithoutTrace makes a file look to the index as it was when it was verified.
func rotWithoutTrace(root, path string, d digest.Digest) {
	GinkgoHelper()
	info, err := os.Stat(path)
	Expect(err).NotTo(HaveOccurred())
	known, err := index.Open(filepath.Join(root, "pullthrough/index.db"), time.Now)
	Expect(err).NotTo(HaveOccurred())
	Expect(known.Change(d, func(r *index.Record) { r.Inode, r.Changed = store.Identity(info) })).To(Succeed())
	Expect(known.Close()).To(Succeed())
}
