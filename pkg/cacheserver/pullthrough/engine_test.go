// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	name = "library/app"
	mib  = 1 << 20
)

// smallDisk takes so many bytes of content, and then no more.
type smallDisk struct{ left atomic.Int64 }

func (d *smallDisk) Create(path string) (store.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &smallFile{File: file, disk: d}, nil
}

// Space lies: it promises what Create's files do not hold, as volumes do that others write to.
func (d *smallDisk) Space(string) (store.Space, error) {
	return store.Space{Total: 1 << 40, Free: 1 << 39}, nil
}

// honestDisk is a smallDisk that tells how much it takes.
type honestDisk struct {
	smallDisk
	total int64
}

func (d *honestDisk) Space(string) (store.Space, error) {
	return store.Space{Total: uint64(d.total), Free: uint64(max(0, d.left.Load()))}, nil
}

type smallFile struct {
	*os.File
	disk *smallDisk
}

func (f *smallFile) Write(p []byte) (int, error) {
	if left := f.disk.left.Add(-int64(len(p))); left < 0 {
		fits := max(0, int64(len(p))+left)
		n, _ := f.File.Write(p[:fits])
		return n, unix.ENOSPC
	}
	return f.File.Write(p)
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func (b *lockedBuffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buffer.Reset()
}

var _ = Describe("Engine", func() {
	BeforeEach(func() {
		running := goleak.IgnoreCurrent()
		DeferCleanup(func() {
			Eventually(func() error {
				return goleak.Find(running, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
			}).Should(Succeed(), "nothing may go on, except for what Distribution never ends")
		})
	})

	get := func(ctx context.Context, c *cache, path string, header http.Header) (*http.Response, []byte) {
		GinkgoHelper()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.URL+path, nil)
		Expect(err).NotTo(HaveOccurred())
		request.Header = header
		response, err := http.DefaultTransport.RoundTrip(request)
		Expect(err).NotTo(HaveOccurred())
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		Expect(err).NotTo(HaveOccurred())
		return response, body
	}
	AfterEach(func() { http.DefaultTransport.(*http.Transport).CloseIdleConnections() })

	It("fetches each object once for many clients, with one token, and then from nowhere", func() {
		c := newCache(GinkgoT(), upstreamsim.Options{
			Authentication: upstreamsim.Bearer, Username: "robot", Password: "an-obvious-test-password",
		}, func(o *pullthrough.Options) {
			o.Credential = credentials.Credential{Username: "robot", Password: "an-obvious-test-password"}
		})
		image := upstreamsim.RandomImage(1, 3, 2*mib)
		c.upstream.Push(name, "v1", image)
		c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.ManifestGet}, Hold: true})
		var done sync.WaitGroup
		for range 12 {
			done.Go(func() {
				defer GinkgoRecover()
				client := pull.NewClient(c.server.URL, &http.Transport{})
				defer client.Close()
				_, err := client.Image(context.Background(), name, "v1")
				Expect(err).NotTo(HaveOccurred())
			})
		}
		Eventually(func() float64 { return c.value("coalesced_total") }).Should(BeEquivalentTo(11))
		c.upstream.Misbehave(upstreamsim.Faults{})
		done.Wait()
		counters := c.upstream.Counters()
		Expect(counters.MostRequested()).To(Equal(1))
		Expect(counters.Total(upstreamsim.Token)).To(BeNumerically("<=", 2), "one for the repository, one to try the credential")
		Expect(counters.Bytes).To(Equal(image.Size()))
		Expect(c.value("pulled_bytes_total")).To(BeEquivalentTo(image.Size()))
		// An answer is counted when it has been sent, which its client may know first.
		Eventually(func() float64 { return c.value("pushed_bytes_total", "type", "blob") }).Should(BeNumerically(">=", 12*6*mib))
		Eventually(func() float64 { return c.value("misses_total", "type", "blob") }).Should(BeEquivalentTo(4))
		c.upstream.Refuse()
		c.restart(nil)
		Expect(c.pull(name, "v1")).To(Succeed())
		Expect(c.pull(name, image.Digest().String())).To(Succeed())
	})

	It("answers as Distribution does: ranges, validators, headers", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100_000)
		c.upstream.Push(name, "v1", image)
		layer := image.Layers()[0]
		path := "/v2/" + name + "/blobs/" + layer.Descriptor().Digest.String()
		head, err := c.client.Do(ctx, http.MethodHead, path, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(head.Body.Close()).To(Succeed())
		Expect(head.ContentLength).To(BeEquivalentTo(100_000))
		Expect(head.Header.Get("Accept-Ranges")).To(Equal("bytes"))
		for _, state := range []string{"cold", "warm"} {
			response, body := get(ctx, c, path, http.Header{"Range": {"bytes=10-19"}})
			Expect(response.StatusCode).To(Equal(http.StatusPartialContent), state)
			Expect(response.Header.Get("Content-Range")).To(Equal("bytes 10-19/100000"), state)
			Expect(body).To(Equal(layer.Data[10:20]), state)
		}
		response, body := get(ctx, c, path, http.Header{})
		Expect(body).To(Equal(layer.Data))
		Expect(response.Header).To(And(
			HaveKeyWithValue("Content-Type", []string{"application/octet-stream"}),
			HaveKeyWithValue("Docker-Content-Digest", []string{layer.Descriptor().Digest.String()}),
			HaveKeyWithValue("Etag", []string{`"` + layer.Descriptor().Digest.String() + `"`}),
			HaveKeyWithValue("Cache-Control", []string{"max-age=31536000"}),
			HaveKeyWithValue("Content-Length", []string{"100000"}),
			HaveKeyWithValue("Docker-Distribution-Api-Version", []string{"registry/2.0"}),
		))
		response, _ = get(ctx, c, path, http.Header{"If-None-Match": {response.Header.Get("Etag")}})
		Expect(response.StatusCode).To(Equal(http.StatusNotModified))
		response, _ = get(ctx, c, path, http.Header{"Range": {"bytes=200000-"}})
		Expect(response.StatusCode).To(Equal(http.StatusRequestedRangeNotSatisfiable))
	})

	It("does not give one repository's content to another", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		shared := upstreamsim.NewLayer(1, mib)
		c.upstream.Push("team/private", "v1", upstreamsim.NewImage(shared))
		c.upstream.Push("team/other", "v1", upstreamsim.NewImage(shared, upstreamsim.NewLayer(2, 10)))
		Expect(c.pull("team/private", "v1")).To(Succeed())
		path := "/blobs/" + shared.Descriptor().Digest.String()
		response, _ := get(ctx, c, "/v2/team/thief"+path, http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
		c.upstream.ResetCounters()
		Expect(c.pull("team/other", "v1")).To(Succeed())
		Expect(c.upstream.Counters().Bytes).To(BeNumerically("<", mib), "what both need is fetched once")
		Expect(c.upstream.Counters().Total(upstreamsim.BlobHead)).To(BeZero(), "its manifest is proof enough")
	})

	It("takes no layer for a manifest that would prove what a repository has", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.NewLayer(1, mib)
		c.upstream.Push("team/private", "v1", upstreamsim.NewImage(private))
		Expect(c.pull("team/private", "v1")).To(Succeed())
		forged := upstreamsim.NewLayer(2, 10)
		forged.Data = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{"digest":"` + private.Descriptor().Digest.String() + `"}]}`)
		c.upstream.Push("team/thief", "v1", upstreamsim.NewImage(forged))
		Expect(c.pull("team/thief", "v1")).To(Succeed())
		for _, content := range []upstreamsim.Content{private, forged} {
			hex := content.Descriptor().Digest.Encoded()
			path := filepath.Join(c.root, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
			Eventually(func() error { _, err := os.Stat(path); return err }).Should(Succeed(), "it is stored after it was sent")
		}

		response, _ := get(ctx, c, "/v2/team/thief/manifests/"+forged.Descriptor().Digest.String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
		response, _ = get(ctx, c, "/v2/team/thief/blobs/"+private.Descriptor().Digest.String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
	})

	It("takes no index for a proof of what a repository has", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.RandomImage(1, 1, mib)
		c.upstream.Push("team/private", "v1", private)
		Expect(c.pull("team/private", "v1")).To(Succeed())
		var sparse imagev1.Index
		Expect(json.Unmarshal(upstreamsim.NewIndex(private).Data, &sparse)).To(Succeed())
		sparse.Manifests = append(sparse.Manifests, private.Layers()[0].Descriptor())
		data, err := json.Marshal(sparse)
		Expect(err).NotTo(HaveOccurred())
		c.upstream.PushManifest("team/thief", "v1", upstreamsim.Content{MediaType: imagev1.MediaTypeImageIndex, Data: data})
		response, _ := get(ctx, c, "/v2/team/thief/manifests/v1", http.Header{"Accept": {imagev1.MediaTypeImageIndex}})
		Expect(response.StatusCode).To(Equal(http.StatusOK))

		for _, path := range []string{"manifests/" + private.Digest().String(), "blobs/" + private.Layers()[0].Descriptor().Digest.String()} {
			response, _ := get(ctx, c, "/v2/team/thief/"+path, http.Header{})
			Expect(response.StatusCode).To(Equal(http.StatusNotFound), path)
		}
	})

	It("takes no image for a proof that the upstream reads otherwise", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.NewLayer(1, mib)
		c.upstream.Push("team/private", "v1", upstreamsim.NewImage(private))
		Expect(c.pull("team/private", "v1")).To(Succeed())
		forged := upstreamsim.NewImage(private).Manifest
		forged.Data = append(bytes.TrimSuffix(forged.Data, []byte("}")), `,"Layers":[]}`...)
		read, _, err := distribution.UnmarshalManifest(forged.MediaType, forged.Data)
		Expect(err).NotTo(HaveOccurred())
		Expect(read.References()).NotTo(ContainElement(HaveField("Digest", private.Descriptor().Digest)), "as Distribution reads it")
		c.upstream.PushManifest("team/thief", "v1", forged)
		response, _ := get(ctx, c, "/v2/team/thief/manifests/v1", http.Header{"Accept": {forged.MediaType}})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		response, _ = get(ctx, c, "/v2/team/thief/blobs/"+private.Descriptor().Digest.String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
	})

	DescribeTable("takes no image for a proof that the upstream may have taken for something else", func(ctx context.Context, sentAs string) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.NewLayer(1, mib)
		c.upstream.Push("team/private", "v1", upstreamsim.NewImage(private))
		Expect(c.pull("team/private", "v1")).To(Succeed())
		forged := upstreamsim.NewImage(private).Manifest
		c.upstream.PushManifest("team/thief", "v1", upstreamsim.Content{MediaType: sentAs, Data: forged.Data})
		manifest, layer := "/v2/team/thief/manifests/v1", "/v2/team/thief/blobs/"+private.Descriptor().Digest.String()
		ask := func() {
			GinkgoHelper()
			response, body := get(ctx, c, manifest, http.Header{"Accept": {forged.MediaType}})
			Expect(response.StatusCode).To(Equal(http.StatusOK))
			Expect(response.Header.Get("Content-Type")).To(Equal(forged.MediaType))
			Expect(body).To(Equal(forged.Data))
			response, _ = get(ctx, c, layer, http.Header{})
			Expect(response.StatusCode).To(Equal(http.StatusNotFound))
		}
		ask()
		c.stop()
		known, err := index.Open(filepath.Join(c.root, "pullthrough/index.db"), time.Now)
		Expect(err).NotTo(HaveOccurred())
		var parents []digest.Digest
		Expect(known.Parents(private.Descriptor().Digest, func(d digest.Digest) bool {
			parents = append(parents, d)
			return true
		})).To(Succeed())
		Expect(known.Close()).To(Succeed())
		Expect(parents).To(ContainElement(forged.Descriptor().Digest), "its use keeps what it needs all the same")

		By("not after a rebuild of the index either, when nothing tells any more how it was sent")
		Expect(os.RemoveAll(filepath.Join(c.root, "pullthrough"))).To(Succeed())
		c.start(nil)
		Eventually(func() float64 { return c.value("storage_used_bytes") }).Should(BeNumerically(">", mib))
		ask()
	},
		Entry("an index", imagev1.MediaTypeImageIndex),
		Entry("an artifact of its own type", "application/vnd.example"),
		Entry("anything", "application/json"),
	)

	Describe("Manifests that do not say what they are", func() {
		const example = "application/vnd.example"
		var (
			c       *cache
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
			response, _ := get(ctx, c, "/v2/"+repository+"/manifests/v1", http.Header{"Accept": {example, imagev1.MediaTypeImageManifest, imagev1.MediaTypeImageIndex}})
			Expect(response.StatusCode).To(Equal(http.StatusOK))
			return response.Header.Get("Content-Type")
		}
		statusOfLayer := func(ctx context.Context, repository string) int {
			GinkgoHelper()
			response, _ := get(ctx, c, "/v2/"+repository+"/blobs/"+private.Layers()[0].Descriptor().Digest.String(), http.Header{})
			return response.StatusCode
		}

		BeforeEach(func() {
			c = newCache(GinkgoT(), upstreamsim.Options{}, nil)
			private = upstreamsim.RandomImage(1, 1, mib)
			private.Manifest = untyped(private.Manifest)
			c.upstream.Push("team/private", "v1", private)
		})

		It("are in each repository what they were sent as, and no proof", func(ctx context.Context) {
			c.upstream.PushManifest("team/thief", "v1", upstreamsim.Content{MediaType: example, Data: private.Manifest.Data})
			Expect(typeIn(ctx, "team/thief")).To(Equal(example))
			Expect(c.pull("team/private", "v1")).To(Succeed())
			Expect(statusOfLayer(ctx, "team/thief")).To(Equal(http.StatusNotFound))

			c.restart(nil)
			Expect(typeIn(ctx, "team/private")).To(Equal(imagev1.MediaTypeImageManifest))
			Expect(typeIn(ctx, "team/thief")).To(Equal(example))
		})

		It("prove nothing by what they are elsewhere", func(ctx context.Context) {
			Expect(c.pull("team/private", "v1")).To(Succeed())
			own := upstreamsim.RandomImage(2, 1, 100)
			var document map[string]any
			Expect(json.Unmarshal(untyped(own.Manifest).Data, &document)).To(Succeed())
			document["manifests"] = []imagev1.Descriptor{private.Layers()[0].Descriptor()}
			both, err := json.Marshal(document)
			Expect(err).NotTo(HaveOccurred())
			own.Manifest = upstreamsim.Content{MediaType: imagev1.MediaTypeImageManifest, Data: both}
			c.upstream.Push("team/thief", "v1", own)
			c.upstream.PushManifest("team/thief/list", "v1", upstreamsim.Content{MediaType: imagev1.MediaTypeImageIndex, Data: both})
			Expect(typeIn(ctx, "team/thief/list")).To(Equal(imagev1.MediaTypeImageIndex))
			Expect(typeIn(ctx, "team/thief")).To(Equal(imagev1.MediaTypeImageManifest))
			Expect(statusOfLayer(ctx, "team/thief")).To(Equal(http.StatusNotFound))
		})
	})

	It("gives a repository no part in the fetch of another that it has no right to", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		private := upstreamsim.NewLayer(1, mib)
		c.upstream.Push("team/private", "v1", upstreamsim.NewImage(private))
		c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, Times: 1, PauseAfter: mib / 2})
		path := "/blobs/" + private.Descriptor().Digest.String()
		var pulling sync.WaitGroup
		pulling.Go(func() {
			defer GinkgoRecover()
			response, body := get(ctx, c, "/v2/team/private"+path, http.Header{})
			Expect(response.StatusCode).To(Equal(http.StatusOK))
			Expect(body).To(HaveLen(mib))
		})
		defer pulling.Wait()
		defer c.upstream.Misbehave(upstreamsim.Faults{})
		Eventually(func() float64 { return c.value("pulled_bytes_total") }).Should(BeNumerically(">", 0))
		response, _ := get(ctx, c, "/v2/team/thief"+path, http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
	})

	It("answers a request for several ranges of what it has to fetch with all of it", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		layer := upstreamsim.NewLayer(1, mib)
		c.upstream.Push(name, "v1", upstreamsim.NewImage(layer))
		response, body := get(ctx, c, "/v2/"+name+"/blobs/"+layer.Descriptor().Digest.String(), http.Header{"Range": {"bytes=0-9,100-109"}})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		Expect(bytes.Equal(body, layer.Data)).To(BeTrue())
	})

	It("does not take an empty answer for a blob", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		layer := upstreamsim.NewLayer(1, mib)
		c.upstream.Push(name, "v1", upstreamsim.NewImage(layer))
		c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, Short: mib})
		response, _ := get(ctx, c, "/v2/"+name+"/blobs/"+layer.Descriptor().Digest.String(), http.Header{})
		Expect(response.StatusCode).To(BeNumerically(">=", 500))
	})

	It("streams what the disk does not take, to several at once, and goes on when it does", func() {
		disk := &smallDisk{}
		disk.left.Store(3 * mib)
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Disk = disk })
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 10*mib))
		var done sync.WaitGroup
		for range 4 {
			done.Go(func() {
				defer GinkgoRecover()
				Expect(c.pull(name, "v1")).To(Succeed())
			})
		}
		done.Wait()
		Eventually(func() float64 { return c.value("unstored_total") }).Should(BeNumerically(">=", 1))
		Eventually(filepath.Glob).WithArguments(filepath.Join(c.root, "docker/registry/v2/repositories/library/app/_uploads/*")).
			Should(BeEmpty(), "clients have everything before a fetch ends")
		disk.left.Store(1 << 40)
		Expect(c.pull(name, "v1")).To(Succeed())
		c.upstream.Refuse()
		Eventually(func() error { return c.pull(name, "v1") }).Should(Succeed())
	})

	It("asks for a manifest once, and serves it in an outage, when nothing can be stored", func(ctx context.Context) {
		disk := &smallDisk{}
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Disk = disk })
		image := upstreamsim.RandomImage(1, 1, 100)
		c.upstream.Push(name, "v1", image)
		for range 3 {
			Expect(c.pull(name, "v1")).To(Succeed())
		}
		Expect(c.upstream.Counters().Total(upstreamsim.ManifestGet)).To(Equal(1))
		manifest := "/v2/" + name + "/manifests/v1"
		c.upstream.Refuse()
		response, _ := get(ctx, c, manifest, http.Header{"Accept": {imagev1.MediaTypeImageManifest}})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		Expect(c.upstream.Accept()).To(Succeed())

		disk.left.Store(1 << 40)
		Eventually(func() error {
			Expect(c.pull(name, "v1")).To(Succeed())
			_, err := os.Stat(blobPath(c.root, image.Digest().Encoded()))
			return err
		}).Should(Succeed())
		c.upstream.Refuse()
		c.restart(nil)
		Expect(c.pull(name, "v1")).To(Succeed(), "now it is stored")
	})

	It("evicts nothing for what is written already", func(ctx context.Context) {
		disk := &honestDisk{total: 25 * mib}
		disk.left.Store(disk.total)
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Disk, o.HighWatermark = disk, 1 })
		layers := []upstreamsim.Content{upstreamsim.NewLayer(1, 12*mib), upstreamsim.NewLayer(2, 8*mib)}
		c.upstream.Push(name, "v1", upstreamsim.NewImage(layers...))
		c.upstream.Push(name, "v0", upstreamsim.RandomImage(3, 1, mib))
		Expect(c.pull(name, "v0")).To(Succeed())

		c.upstream.Misbehave(upstreamsim.Faults{Times: 1, HangAfter: 9 * mib})
		var pulling sync.WaitGroup
		pulling.Go(func() {
			defer GinkgoRecover()
			Expect(c.client.Blob(ctx, name, layers[0].Descriptor().Digest)).To(BeEquivalentTo(12 * mib))
		})
		defer pulling.Wait()
		defer c.upstream.Misbehave(upstreamsim.Faults{})
		Eventually(disk.left.Load).Should(BeNumerically("<", 16*mib))
		Expect(c.client.Blob(ctx, name, layers[1].Descriptor().Digest)).To(BeEquivalentTo(8 * mib))
		Expect(c.value("removed_total")).To(BeZero())
		Expect(c.value("unstored_total")).To(BeZero())
	})

	It("evicts from a real volume, and serves through one that stays full", func() {
		root := GinkgoT().TempDir()
		if err := unix.Mount("larder-test", root, "tmpfs", 0, "size=24m"); err != nil {
			Skip("no small file system can be mounted, which not even root can in many containers: " + err.Error())
		}
		DeferCleanup(func() { Expect(unix.Unmount(root, unix.MNT_DETACH)).To(Succeed()) })
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.RootDirectory = root })
		c.root = root
		c.restart(nil)
		for i := range uint64(6) {
			tag := fmt.Sprintf("v%d", i)
			c.upstream.Push(name, tag, upstreamsim.RandomImage(i, 1, 6*mib))
			Expect(c.pull(name, tag)).To(Succeed())
		}
		latest := upstreamsim.RandomImage(5, 1, 6*mib).Layers()[0].Descriptor().Digest
		Eventually(blobPath).WithArguments(root, latest.Encoded()).Should(BeAnExistingFile(), "it is stored after it was sent")
		c.upstream.Push(name, "large", upstreamsim.RandomImage(9, 1, 40*mib))
		Expect(c.pull(name, "large")).To(Succeed())
		Expect(c.value("removed_total", "reason", "evicted")).To(BeNumerically(">", 0))
		c.upstream.Refuse()
		Expect(c.pull(name, "v5")).To(Succeed(), "the latest is still there")
		Expect(c.pull(name, "v0")).NotTo(Succeed())
	})

	It("verifies large files while it sends them, and cuts off what is wrong", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 80*mib)
		c.upstream.Push(name, "v1", image)
		Expect(c.pull(name, "v1")).To(Succeed())
		layer := image.Layers()[0].Descriptor().Digest
		c.restart(nil) // Waits for the commit.
		awaitTick(blobPath(c.root, layer.Encoded()))
		file, err := os.OpenFile(blobPath(c.root, layer.Encoded()), os.O_WRONLY, 0)
		Expect(err).NotTo(HaveOccurred())
		_, err = file.WriteAt([]byte("rot"), 70*mib)
		Expect(err).NotTo(HaveOccurred())
		Expect(file.Close()).To(Succeed())
		_, err = c.client.Blob(ctx, name, layer)
		Expect(err).To(HaveOccurred())
		Expect(err).NotTo(MatchError(pull.ErrWrongContent), "it must not look complete")
		Expect(c.client.Blob(ctx, name, layer)).To(BeEquivalentTo(80 * mib))
		Expect(c.value("corrupt_total")).To(BeEquivalentTo(1))
	})

	It("verifies what a client comes back for, since disks lie", func(ctx context.Context) {
		var passed atomic.Int64
		later := func(o *pullthrough.Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
		}
		c := newCache(GinkgoT(), upstreamsim.Options{}, later)
		image := upstreamsim.RandomImage(1, 1, mib)
		c.upstream.Push(name, "v1", image)
		Expect(c.pull(name, "v1")).To(Succeed())
		layer := image.Layers()[0].Descriptor().Digest
		c.stop()
		path := blobPath(c.root, layer.Encoded())
		content, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		content[mib/2] ^= 4
		Expect(os.WriteFile(path, content, 0o600)).To(Succeed())
		rotWithoutTrace(c.root, layer)
		c.start(later)

		passed.Store(int64(2 * time.Hour))
		_, err = c.client.Blob(ctx, name, layer)
		Expect(err).To(MatchError(pull.ErrWrongContent), "nothing tells")
		Eventually(func() float64 { return c.value("hits_total", "type", "blob") }).Should(BeEquivalentTo(1), "it is noted after it was sent")
		Expect(c.client.Blob(ctx, name, layer)).To(BeEquivalentTo(mib))
		Expect(c.value("corrupt_total")).To(BeEquivalentTo(1))
		c.upstream.ResetCounters()
		Expect(c.client.Blob(ctx, name, layer)).To(BeEquivalentTo(mib))
		Expect(c.upstream.Counters().Objects).To(BeEmpty())
	})

	It("lets go of clients that stop reading", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 64*mib)
		c.upstream.Push(name, "v1", image)
		Expect(c.pull(name, "v1")).To(Succeed())
		c.restart(func(o *pullthrough.Options) { o.ClientTimeout = 200 * time.Millisecond })
		pushed := c.value("pushed_bytes_total")

		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.server.Listener.Addr().String())
		Expect(err).NotTo(HaveOccurred())
		defer connection.Close()
		_, err = fmt.Fprintf(connection, "GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: cache\r\n\r\n", name, image.Layers()[0].Descriptor().Digest)
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() float64 { return c.value("pushed_bytes_total") }).Should(BeNumerically(">", pushed), "the request has ended")
		got, _ := io.Copy(io.Discard, connection)
		Expect(got).To(BeNumerically("<", 64*mib))
	})

	It("does not take a pause of the upstream for one of the client, with HTTP/2 either", func(ctx context.Context) {
		const timeout = 2 * time.Second
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.ClientTimeout = timeout })
		layer := upstreamsim.NewLayer(1, mib)
		c.upstream.Push(name, "v1", upstreamsim.NewImage(layer))
		server := httptest.NewUnstartedServer(c.engine.Handler(c.app))
		server.EnableHTTP2 = true
		server.StartTLS()
		defer server.Close()
		c.upstream.Misbehave(upstreamsim.Faults{Times: 1, PauseAfter: mib / 2})
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
		c.upstream.Misbehave(upstreamsim.Faults{})
		Eventually(ctx, rest).Should(Receive(BeEquivalentTo(mib - mib/4)))
	})

	It("works with an upstream that does not tell sizes", func() {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 2, mib)
		c.upstream.Push(name, "v1", image)
		chunked := unsized(c.upstream.URL())
		defer chunked.Close()
		c.restart(func(o *pullthrough.Options) { o.RemoteURL = chunked.URL })
		Expect(c.pull(name, "v1")).To(Succeed())
		c.upstream.Refuse()
		Eventually(func() error { return c.pull(name, "v1") }).Should(Succeed())
	})

	Context("with an upstream whose blobs tell no size and have no end", func() {
		var (
			c    *cache
			disk *honestDisk
		)

		BeforeEach(func() {
			c = newCache(GinkgoT(), upstreamsim.Options{}, nil)
			sized := unsized(c.upstream.URL())
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
			disk = &honestDisk{total: 24 * mib}
			disk.left.Store(disk.total)
			c.restart(func(o *pullthrough.Options) { o.Disk, o.RemoteURL, o.GracePeriod = disk, endless.URL, time.Millisecond })
		})

		It("does not let one fill the disk", func(ctx context.Context) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.URL+"/v2/"+name+"/blobs/"+digest.FromString("x").String(), nil)
			Expect(err).NotTo(HaveOccurred())
			response, err := http.DefaultTransport.RoundTrip(request)
			Expect(err).NotTo(HaveOccurred())
			defer response.Body.Close()
			_, err = io.CopyN(io.Discard, response.Body, 48*mib)
			Expect(err).NotTo(HaveOccurred())
			Expect(disk.left.Load()).To(BeNumerically(">", 0))
		})

		It("takes no more than a manifest says there is", func(ctx context.Context) {
			layer := upstreamsim.NewLayer(1, mib)
			c.upstream.Push(name, "v1", upstreamsim.NewImage(layer))
			_, err := c.client.Manifest(ctx, name, "v1")
			Expect(err).NotTo(HaveOccurred())
			n, err := c.client.Blob(ctx, name, layer.Descriptor().Digest)
			Expect(err).To(HaveOccurred())
			Expect(n).To(BeNumerically("<", mib))
		})
	})

	It("fetches a manifest that rots once, without an index either", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		c.upstream.Push(name, "v1", image)
		Expect(c.pull(name, "v1")).To(Succeed())
		c.stop()
		Expect(os.RemoveAll(filepath.Join(c.root, "pullthrough"))).To(Succeed())
		Expect(os.WriteFile(filepath.Join(c.root, "pullthrough"), []byte("no directory for an index"), 0o600)).To(Succeed())
		Expect(os.WriteFile(blobPath(c.root, image.Digest().Encoded()), []byte("rot"), 0o600)).To(Succeed())
		c.upstream.ResetCounters()
		for range 2 {
			c.start(nil)
			_, err := c.client.Manifest(ctx, name, image.Digest().String())
			Expect(err).NotTo(HaveOccurred())
			Expect(c.upstream.Counters().Total(upstreamsim.ManifestGet)).To(Equal(1))
			c.stop()
		}
	})

	It("rebuilds a lost index while it serves", func() {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		c.upstream.Push(name, "v1", upstreamsim.RandomImage(1, 2, mib))
		Expect(c.pull(name, "v1")).To(Succeed())
		c.stop()
		Expect(os.RemoveAll(filepath.Join(c.root, "pullthrough"))).To(Succeed())
		c.upstream.Refuse()
		c.start(nil)
		Expect(c.pull(name, "v1")).To(Succeed())
		Eventually(func() float64 { return c.value("storage_used_bytes") }).Should(BeNumerically(">", 2*mib))
	})

	It("serves several engines in one process", func() {
		first := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		second := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		first.upstream.Push(name, "v1", upstreamsim.RandomImage(1, 1, 1000))
		second.upstream.Push(name, "v1", upstreamsim.RandomImage(2, 1, 1000))
		a, err := first.client.Head(context.Background(), name, "v1")
		Expect(err).NotTo(HaveOccurred())
		b, err := second.client.Head(context.Background(), name, "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(a).NotTo(Equal(b))
	})

	It("passes on lists: tags with pages, and referrers", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		for i := range 5 {
			c.upstream.Push(name, fmt.Sprintf("v%d", i), image)
		}
		_, body := get(ctx, c, "/v2/"+name+"/tags/list", http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v0","v1","v2","v3","v4"]}`))
		response, body := get(ctx, c, "/v2/"+name+"/tags/list?n=2&last=v1", http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v2","v3"]}`))
		Expect(response.Header.Get("Link")).To(ContainSubstring("last=v3"))
		response, _ = get(ctx, c, "/v2/library/none/tags/list", http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))

		subject := image.Manifest.Descriptor()
		artifact := upstreamsim.NewArtifact("application/vnd.example", subject)
		c.upstream.Push(name, "", artifact)
		response, body = get(ctx, c, "/v2/"+name+"/referrers/"+subject.Digest.String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		Expect(response.Header.Get("Content-Type")).To(Equal("application/vnd.oci.image.index.v1+json"))
		Expect(string(body)).To(ContainSubstring(artifact.Digest().String()))

	})

	It("lists no tags in an outage but those of the last whole list", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		for i := range 5 {
			c.upstream.Push(name, fmt.Sprintf("v%d", i), image)
		}
		Expect(c.pull(name, "v1")).To(Succeed())
		tags := "/v2/" + name + "/tags/list"
		get(ctx, c, tags+"?n=2", http.Header{})
		c.upstream.Refuse()
		for _, query := range []string{"", "?n=2", "?n=2&last=v1"} {
			response, body := get(ctx, c, tags+query, http.Header{})
			Expect(response.StatusCode).To(Equal(http.StatusServiceUnavailable), "%s: %s", query, body)
			Expect(string(body)).To(ContainSubstring(strings.TrimPrefix(c.upstream.URL(), "http://")))
		}

		Expect(c.upstream.Accept()).To(Succeed())
		get(ctx, c, tags, http.Header{})
		c.upstream.Refuse()
		_, body := get(ctx, c, tags, http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v0","v1","v2","v3","v4"]}`))
		response, body := get(ctx, c, tags+"?n=2&last=v1", http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v2","v3"]}`))
		Expect(response.Header.Get("Link")).To(ContainSubstring("last=v3"))
	})

	DescribeTable("asks for all tags when the upstream refuses the query", func(ctx context.Context, query string, status int, expected string) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		for i := range 5 {
			c.upstream.Push(name, fmt.Sprintf("v%d", i), image)
		}
		c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.Tags}, Times: 1, Status: status})
		response, body := get(ctx, c, "/v2/"+name+"/tags/list"+query, http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusOK))
		Expect(body).To(MatchJSON(expected))
		Expect(c.upstream.Counters().Total(upstreamsim.Tags)).To(Equal(2))
	},
		Entry("since it does not know the last tag any more", "?n=2&last=v1a", http.StatusNotFound, `{"name":"library/app","tags":["v2","v3"]}`),
		Entry("since the number is too large for it", "?n=10000", http.StatusBadRequest, `{"name":"library/app","tags":["v0","v1","v2","v3","v4"]}`),
	)

	It("says once that a repository is unknown", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		response, _ := get(ctx, c, "/v2/library/none/tags/list?n=2", http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound))
		Expect(c.upstream.Counters().Total(upstreamsim.Tags)).To(Equal(1))
	})

	It("lists no more tags than asked for, whatever the upstream sends", func(ctx context.Context) {
		lavish := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"name":"library/app","tags":["v0","v1","v2"]}`)
		}))
		defer lavish.Close()
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.RemoteURL = lavish.URL })
		response, body := get(ctx, c, "/v2/"+name+"/tags/list?n=1", http.Header{})
		Expect(body).To(MatchJSON(`{"name":"library/app","tags":["v0"]}`))
		Expect(response.Header.Get("Link")).To(ContainSubstring("last=v0"))
	})

	It("puts one list of tags together for all that want a part of it, and none for those that have left", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{PageSize: 1, PageTokens: true, Latency: 20 * time.Millisecond}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		for i := range 40 {
			c.upstream.Push(name, fmt.Sprintf("v%02d", i), image)
		}
		list := func(ctx context.Context, n int) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/v2/%s/tags/list?n=%d", c.server.URL, name, n), nil)
			Expect(err).NotTo(HaveOccurred())
			response, err := c.client.HTTP.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			var list struct{ Tags []string }
			Expect(json.NewDecoder(response.Body).Decode(&list)).To(Succeed())
			Expect(list.Tags).To(HaveLen(n))
			return nil
		}
		var asking sync.WaitGroup
		for n := range 10 {
			asking.Go(func() {
				defer GinkgoRecover()
				Expect(list(ctx, n+2)).To(Succeed())
			})
		}
		asking.Wait()
		Expect(c.upstream.Counters().Total(upstreamsim.Tags)).To(BeNumerically("<=", 10+2*40))

		c.upstream.ResetCounters()
		leaving, leave := context.WithCancel(ctx)
		for n := range 10 {
			asking.Go(func() {
				defer GinkgoRecover()
				Expect(list(leaving, n+2)).To(MatchError(context.Canceled))
			})
		}
		Eventually(func() int { return c.upstream.Counters().Total(upstreamsim.Tags) }).Should(BeNumerically(">", 10))
		leave()
		asking.Wait()
		var before int
		Eventually(func() bool {
			now := c.upstream.Counters().Total(upstreamsim.Tags)
			stands := now == before
			before = now
			return stands
		}).WithPolling(500 * time.Millisecond).Should(BeTrue())
		Expect(before).To(BeNumerically("<", 40))
	})

	It("refuses a manifest with more values than a parser should see, and names the upstream", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		c.upstream.PushManifest(name, "bomb", upstreamsim.Content{
			MediaType: imagev1.MediaTypeImageManifest,
			Data:      []byte(`{"schemaVersion":2,"blobs":[{}` + strings.Repeat(",{}", 1_000_000) + `]}`),
		})
		response, body := get(ctx, c, "/v2/"+name+"/manifests/bomb", http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusBadGateway))
		Expect(string(body)).To(ContainSubstring("too many values"))
	})

	It("logs the bytes of blobs, of parts and of what breaks off, too", func(ctx context.Context) {
		logged := &lockedBuffer{}
		logrus.SetOutput(logged)
		DeferCleanup(func() { logrus.SetOutput(io.Discard) })
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 3*mib+7)
		c.upstream.Push(name, "v1", image)
		path := "/v2/" + name + "/blobs/" + image.Layers()[0].Descriptor().Digest.String()
		for _, expected := range []struct{ spec, written string }{{"", "3145735"}, {"", "3145735"}, {"bytes=5-1048590", "1048586"}} {
			header := http.Header{}
			if expected.spec != "" {
				header.Set("Range", expected.spec)
			}
			logged.Reset()
			get(ctx, c, path, header)
			Eventually(logged.String).Should(MatchRegexp("response completed.*http.response.written=" + expected.written + "\\b"))
		}
	})

	It("passes nothing on as a list of referrers that is none", func(ctx context.Context) {
		portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>please log in</html>")
		}))
		defer portal.Close()
		c := newCache(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.RemoteURL = portal.URL })
		response, body := get(ctx, c, "/v2/"+name+"/referrers/"+digest.FromString("subject").String(), http.Header{})
		Expect(response.StatusCode).To(Equal(http.StatusNotFound), "clients look for a tag then")
		Expect(string(body)).NotTo(ContainSubstring("log in"))
	})

	It("takes no writes", func(ctx context.Context) {
		c := newCache(GinkgoT(), upstreamsim.Options{}, nil)
		image := upstreamsim.RandomImage(1, 1, 100)
		c.upstream.Push(name, "v1", image)
		Expect(c.pull(name, "v1")).To(Succeed())
		c.upstream.Refuse()
		for path, method := range map[string]string{
			"blobs/uploads/":                       http.MethodPost,
			"manifests/v1":                         http.MethodDelete,
			"manifests/" + image.Digest().String(): http.MethodDelete,
			"blobs/" + image.Layers()[0].Descriptor().Digest.String(): http.MethodDelete,
		} {
			request, err := http.NewRequestWithContext(ctx, method, c.server.URL+"/v2/"+name+"/"+path, http.NoBody)
			Expect(err).NotTo(HaveOccurred())
			response, err := http.DefaultClient.Do(request)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
			Expect(response.StatusCode).To(Equal(http.StatusMethodNotAllowed), path)
		}
		Expect(c.pull(name, "v1")).To(Succeed(), "all of it is still there")
	})
})

func blobPath(root, encoded string) string {
	return filepath.Join(root, "docker/registry/v2/blobs/sha256", encoded[:2], encoded, "data")
}

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
func rotWithoutTrace(root string, d digest.Digest) {
	GinkgoHelper()
	info, err := os.Stat(blobPath(root, d.Encoded()))
	Expect(err).NotTo(HaveOccurred())
	known, err := index.Open(filepath.Join(root, "pullthrough/index.db"), time.Now)
	Expect(err).NotTo(HaveOccurred())
	Expect(known.Change(d, func(r *index.Record) { r.Inode, r.Changed = store.Identity(info) })).To(Succeed())
	Expect(known.Close()).To(Succeed())
}
