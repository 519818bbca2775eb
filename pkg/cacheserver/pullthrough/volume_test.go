// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("A volume that hangs", func() {
	enginetest.ExpectNoLeaks()

	// block replaces the file of a blob by one that waits for a writer when it is opened, which release is.
	block := func(cache *enginetest.Cache, d digest.Digest) (release func()) {
		GinkgoHelper()
		path := filepath.Join(cache.Root, "docker/registry/v2/blobs/sha256", d.Encoded()[:2], d.Encoded(), "data")
		Eventually(path).Should(BeAnExistingFile())
		Expect(os.Remove(path)).To(Succeed())
		Expect(unix.Mkfifo(path, 0o600)).To(Succeed())
		release = sync.OnceFunc(func() {
			writer, err := os.OpenFile(path, os.O_RDWR, 0) // Without waiting for readers.
			Expect(err).NotTo(HaveOccurred())
			Expect(os.Remove(path)).To(Succeed())
			Expect(writer.Close()).To(Succeed())
		})
		DeferCleanup(func() { release() })
		return release
	}
	getFrom := func(ctx context.Context, cache *enginetest.Cache) func(path string) error {
		return func(path string) error {
			response, err := cache.Client.Do(ctx, http.MethodGet, "/v2/"+enginetest.Name+path, nil)
			if err == nil {
				err = response.Body.Close()
			}
			return err
		}
	}

	It("costs clients two seconds, and all others nothing until it responds", func(ctx context.Context) {
		disk := &slowDisk{probing: make(chan struct{})}
		cache := enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) { o.Disk = disk })
		image := upstreamsim.RandomImage(1, 1, 10_000)
		cache.Upstream.Push(enginetest.Name, "v1", image)
		disk.Left.Store(1 << 40)
		_, err := cache.Client.Image(ctx, enginetest.Name, "v1")
		Expect(err).NotTo(HaveOccurred())
		d, get := image.Layers()[0].Descriptor().Digest, getFrom(ctx, cache)
		release := block(cache, d)
		disk.armed.Store(true)
		endProbes := sync.OnceFunc(func() { close(disk.probing) })
		defer endProbes()

		began := time.Now()
		err = get("/blobs/" + d.String())
		Expect(err).To(HaveOccurred())
		Expect(pull.StatusOf(err)).To(BeElementOf(0, http.StatusServiceUnavailable)) // net/http may repeat the request.
		Expect(time.Since(began)).To(BeNumerically("<", 10*time.Second))
		Expect(pull.StatusOf(get("/manifests/v1"))).To(Equal(http.StatusServiceUnavailable))
		Expect(get("/manifests/"+image.Digest().String())).To(Succeed(), "since it is in memory")
		Expect(cache.Engine.VolumeHangs()).To(BeTrue())
		Expect(cache.Engine.Status().Storage).To(And(
			HaveField("Failing", true), HaveField("FailedAt", BeTemporally("~", time.Now(), time.Minute))))

		release()
		Eventually(func() error { return get("/manifests/v1") }).Should(Succeed())
		Eventually(func() error { return get("/blobs/" + d.String()) }).Should(Succeed())
		Expect(cache.Engine.VolumeHangs()).To(BeFalse())
	})

	It("is not one of which one file cannot be read", func(ctx context.Context) {
		cache := enginetest.New(GinkgoT(), upstreamsim.Options{}, nil)
		image, other := upstreamsim.RandomImage(1, 1, 10_000), upstreamsim.RandomImage(2, 1, 10_000)
		cache.Upstream.Push(enginetest.Name, "v1", image)
		cache.Upstream.Push(enginetest.Name, "v2", other)
		for _, tag := range []string{"v1", "v2"} {
			_, err := cache.Client.Image(ctx, enginetest.Name, tag)
			Expect(err).NotTo(HaveOccurred())
		}
		d, sound, get := image.Layers()[0].Descriptor().Digest, other.Layers()[0].Descriptor().Digest, getFrom(ctx, cache)
		release := block(cache, d)
		for range 2 {
			began := time.Now()
			Expect(get("/blobs/" + d.String())).NotTo(Succeed())
			Expect(time.Since(began)).To(BeNumerically("<", 10*time.Second))
			Eventually(cache.Engine.VolumeHangs).Should(BeFalse(), "its probe returns")
			Expect(get("/blobs/" + sound.String())).To(Succeed())
			Expect(get("/manifests/v2")).To(Succeed())
			Expect(cache.Engine.Status().Storage.Failing).To(BeTrue(), "a call is stuck")
		}
		Expect(filepath.Glob(filepath.Join(cache.Root, "pullthrough/probe/*"))).To(BeEmpty())
		release()
		Eventually(func() error { return get("/blobs/" + d.String()) }).Should(Succeed())
		Eventually(func() bool { return cache.Engine.Status().Storage.Failing }).Should(BeFalse())
	})

	It("does not keep the gate waiting", func(ctx context.Context) {
		disk := &slowDisk{probing: make(chan struct{})}
		disk.Left.Store(1 << 40)
		t := newTenants(upstreamsim.Options{Latency: 300 * time.Millisecond}, func(o *pullthrough.Options) { o.Disk = disk })
		t.pullStored(alice, shared)
		release := block(t.Cache, digest.Digest(t.layer(shared)))
		defer release()
		disk.armed.Store(true)
		defer close(disk.probing)
		blob := "/v2/" + shared + "/blobs/" + t.layer(shared)
		Eventually(func() int {
			_, err := t.as(alice).Do(ctx, http.MethodGet, blob, nil)
			return pull.StatusOf(err)
		}).WithTimeout(20 * time.Second).Should(Equal(http.StatusServiceUnavailable))
		Expect(t.Engine.VolumeHangs()).To(BeTrue())

		asked := len(t.seen.Requests())
		for _, client := range []upstreamsim.Account{alice, bob, wrong, none} {
			for _, path := range []string{blob, "/v2/" + shared + "/tags/list", "/v2/" + shared + "/referrers/" + t.images[shared].Digest().String()} {
				code, _, _ := t.status(client, http.MethodGet, path, nil)
				Expect(code).To(Equal(http.StatusServiceUnavailable), path)
			}
		}
		Expect(t.seen.Requests()).To(HaveLen(asked), "the gate did not decide")

		manifest := "/v2/" + shared + "/manifests/" + t.images[shared].Digest().String()
		t.pass(grantDuration + time.Second) // So that the upstream is asked, which takes longer than a look at the connection.
		code, _, _ := t.status(alice, http.MethodGet, manifest, nil)
		Expect(code).To(Equal(http.StatusOK), "since it is in memory")
		Expect(len(t.seen.Requests())).To(BeNumerically(">", asked))
		code, _, _ = t.status(none, http.MethodGet, manifest, nil)
		Expect(code).To(Equal(http.StatusUnauthorized))
	})

	// start returns a cache on a disk, and the path of a blob that the cache does not have. The manifest is in memory.
	start := func(ctx context.Context, disk store.Disk, change func(*pullthrough.Options)) (cache *enginetest.Cache, path string) {
		cache = enginetest.New(GinkgoT(), upstreamsim.Options{}, func(o *pullthrough.Options) {
			o.Disk = disk
			if change != nil {
				change(o)
			}
		})
		image := upstreamsim.RandomImage(1, 1, 8<<20)
		cache.Upstream.Push(enginetest.Name, "v1", image)
		response, err := cache.Client.Do(ctx, http.MethodGet, "/v2/"+enginetest.Name+"/manifests/v1", nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(response.Body.Close()).To(Succeed())
		return cache, "/v2/" + enginetest.Name + "/blobs/" + image.Layers()[0].Descriptor().Digest.String()
	}

	It("costs a pull that begins meanwhile two seconds", func(ctx context.Context) {
		disk := &slowDisk{creating: make(chan struct{})}
		cache, path := start(ctx, disk, nil)
		disk.armed.Store(true)
		create := sync.OnceFunc(func() { close(disk.creating) })
		defer create()
		_, err := cache.Client.Do(ctx, http.MethodGet, path, nil)
		// A server that is busy does not respond before the connection is closed.
		Expect(pull.StatusOf(err)).To(BeElementOf(0, http.StatusServiceUnavailable))
		Expect(cache.Engine.VolumeHangs()).To(BeTrue())
		_, err = cache.Client.Do(ctx, http.MethodGet, path, nil)
		Expect(pull.StatusOf(err)).To(Equal(http.StatusServiceUnavailable), "at once")
		create()
		Eventually(func() error { return drain(ctx, cache, path) }).Should(Succeed())
	})

	It("is not one that is slow while other calls return", func(ctx context.Context) {
		disk := &slowDisk{pause: 3 * time.Second}
		cache, path := start(ctx, disk, nil)
		other := upstreamsim.RandomImage(2, 1, 1000)
		cache.Upstream.Push(enginetest.Name, "v2", other)
		Expect(cache.Pull(enginetest.Name, "v2")).To(Succeed())
		small := "/v2/" + enginetest.Name + "/blobs/" + other.Layers()[0].Descriptor().Digest.String()
		disk.armed.Store(true)
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			ticker := time.NewTicker(time.Second)
			defer ticker.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ticker.C:
					if response, err := cache.Client.Do(ctx, http.MethodGet, small, nil); err == nil {
						_ = response.Body.Close()
					}
				}
			}
		}()
		Expect(drain(ctx, cache, path)).To(Succeed())
		Expect(disk.paused.Load()).To(BeTrue())
	})

	It("is not one that is slow if the clients need the credential of the cache", func(ctx context.Context) {
		disk := &slowDisk{pause: 3 * time.Second}
		cache, path := start(ctx, disk, func(o *pullthrough.Options) {
			o.Credential = credentials.Credential{Username: "user", Password: "password"}
		})
		disk.armed.Store(true)
		Expect(drain(ctx, cache, path)).To(Succeed())
		Expect(disk.paused.Load()).To(BeTrue())
	})
})

// drain gets content to its end.
func drain(ctx context.Context, cache *enginetest.Cache, path string) error {
	response, err := cache.Client.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// slowDisk, once it is armed, waits for creating, unless it is nil, before it creates an upload or is probed, or for
// probing before it is probed, and pauses within one write to an upload.
type slowDisk struct {
	enginetest.SmallDisk
	armed, paused atomic.Bool
	creating      chan struct{}
	probing       chan struct{}
	pause         time.Duration
}

func (d *slowDisk) Create(path string) (store.File, error) {
	d.Left.Store(1 << 40)
	isProbe := strings.Contains(path, "pullthrough/probe/")
	if d.creating != nil && d.armed.Load() && (isProbe || strings.Contains(path, "_uploads")) {
		<-d.creating
	}
	if d.probing != nil && d.armed.Load() && isProbe {
		<-d.probing
	}
	file, err := d.SmallDisk.Create(path)
	return &slowFile{File: file, disk: d}, err
}

type slowFile struct {
	store.File
	disk    *slowDisk
	written int
}

func (f *slowFile) Write(p []byte) (int, error) {
	if f.written += len(p); f.written > 1<<20 && f.disk.armed.Load() && f.disk.paused.CompareAndSwap(false, true) {
		time.Sleep(f.disk.pause)
	}
	return f.File.Write(p)
}
