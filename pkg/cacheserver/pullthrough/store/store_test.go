// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/distribution/reference"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

const repository = "library/app"

// manifestOf returns a minimal image manifest with a configuration.
func manifestOf(config digest.Digest) []byte {
	return []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":` +
		`"application/vnd.oci.image.config.v1+json","digest":"` + config.String() + `","size":2},"layers":[]}`)
}

var _ = Describe("Store", func() {
	var (
		root  string
		s     *store.Store
		stock distribution.Repository
	)

	BeforeEach(func(ctx context.Context) {
		root = GinkgoT().TempDir()
		var err error
		s, err = store.Open(root, nil)
		Expect(err).NotTo(HaveOccurred())
		registry, err := storage.NewRegistry(ctx, filesystem.New(filesystem.DriverParameters{RootDirectory: root, MaxThreads: 100}))
		Expect(err).NotTo(HaveOccurred())
		name, err := reference.WithName(repository)
		Expect(err).NotTo(HaveOccurred())
		stock, err = registry.Repository(ctx, name)
		Expect(err).NotTo(HaveOccurred())
	})

	// files lists everything below the root.
	files := func() (paths []string) {
		Expect(filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && path != root {
				paths = append(paths, path)
			}
			return err
		})).To(Succeed())
		return paths
	}

	It("begins uploads while others remove the empty directory", func() {
		var workers sync.WaitGroup
		for range 8 {
			workers.Go(func() {
				defer GinkgoRecover()
				for range 500 {
					upload, err := s.NewUpload(repository)
					Expect(err).NotTo(HaveOccurred())
					upload.Discard()
				}
			})
		}
		workers.Wait()
	})

	It("writes files that Distribution can read", func(ctx context.Context) {
		config := []byte("{}")
		configDigest := digest.FromBytes(config)
		Expect(s.PutBlob(repository, configDigest, config)).To(Succeed())
		Expect(s.LinkLayer(repository, configDigest)).To(Succeed())
		manifest := manifestOf(configDigest)
		manifestDigest := digest.FromBytes(manifest)
		Expect(s.PutBlob(repository, manifestDigest, manifest)).To(Succeed())
		Expect(s.LinkManifest(repository, manifestDigest)).To(Succeed())
		Expect(s.SetTag(repository, "v1", manifestDigest)).To(Succeed())

		Expect(stock.Blobs(ctx).Get(ctx, configDigest)).To(Equal(config))
		tag, err := stock.Tags(ctx).Get(ctx, "v1")
		Expect(err).NotTo(HaveOccurred())
		Expect(tag.Digest).To(Equal(manifestDigest))
		manifests, err := stock.Manifests(ctx)
		Expect(err).NotTo(HaveOccurred())
		read, err := manifests.Get(ctx, manifestDigest)
		Expect(err).NotTo(HaveOccurred())
		_, payload, err := read.Payload()
		Expect(err).NotTo(HaveOccurred())
		Expect(payload).To(Equal(manifest))
	})

	It("reads files that Distribution has written", func(ctx context.Context) {
		descriptor, err := stock.Blobs(ctx).Put(ctx, "application/octet-stream", []byte("{}"))
		Expect(err).NotTo(HaveOccurred())
		Expect(s.HasLayer(repository, descriptor.Digest)).To(BeTrue())
		manifest, _, err := distribution.UnmarshalManifest("application/vnd.oci.image.manifest.v1+json", manifestOf(descriptor.Digest))
		Expect(err).NotTo(HaveOccurred())
		manifests, err := stock.Manifests(ctx)
		Expect(err).NotTo(HaveOccurred())
		manifestDigest, err := manifests.Put(ctx, manifest)
		Expect(err).NotTo(HaveOccurred())
		descriptor.Digest = manifestDigest
		Expect(stock.Tags(ctx).Tag(ctx, "v1", descriptor)).To(Succeed())

		Expect(s.HasManifest(repository, manifestDigest)).To(BeTrue())
		Expect(s.Tag(repository, "v1")).To(Equal(manifestDigest))
		var repositories []string
		Expect(s.WalkRepositories(func(name string) error {
			repositories = append(repositories, name)
			return nil
		})).To(Succeed())
		Expect(repositories).To(ConsistOf(repository))
		blobs := map[digest.Digest]int64{}
		Expect(s.WalkBlobs(func(d digest.Digest, info fs.FileInfo) error {
			blobs[d] = info.Size()
			return nil
		})).To(Succeed())
		Expect(blobs).To(HaveLen(2))
	})

	It("removes objects without leftovers", func() {
		content := []byte("content")
		d := digest.FromBytes(content)
		Expect(s.PutBlob(repository, d, content)).To(Succeed())
		Expect(s.LinkLayer(repository, d)).To(Succeed())
		Expect(s.LinkManifest(repository, d)).To(Succeed())
		Expect(s.SetTag(repository, "v1", d)).To(Succeed())
		Expect(s.SetTag(repository, "v2", d)).To(Succeed())
		other := digest.FromString("other")
		Expect(s.SetTag(repository, "v2", other)).To(Succeed())

		Expect(s.UnlinkLayer(repository, d)).To(Succeed())
		Expect(s.UnlinkManifest(repository, d)).To(ConsistOf("v1"))
		Expect(s.RemoveBlob(d)).To(Succeed())
		Expect(s.Tag(repository, "v2")).To(Equal(other), "a tag that leads elsewhere stays")
		Expect(s.UnlinkManifest(repository, other)).To(ConsistOf("v2"))
		_, _, err := s.OpenBlob(d)
		Expect(err).To(MatchError(store.ErrNotFound))
		for _, path := range files() {
			Expect(path).NotTo(ContainSubstring(repository))
		}
	})

	It("keeps a tag that moves to another manifest while its old one is removed", func() {
		for i := range 20 {
			old, current := digest.FromString(fmt.Sprint("old", i)), digest.FromString(fmt.Sprint("new", i))
			Expect(s.LinkManifest(repository, old)).To(Succeed())
			Expect(s.SetTag(repository, "v1", old)).To(Succeed())
			var moving sync.WaitGroup
			moving.Go(func() {
				defer GinkgoRecover()
				Expect(s.SetTag(repository, "v1", current)).To(Succeed())
			})
			_, err := s.UnlinkManifest(repository, old)
			Expect(err).NotTo(HaveOccurred())
			moving.Wait()
			Expect(s.Tag(repository, "v1")).To(Equal(current))
		}
	})

	It("treats a damaged tag as missing", func() {
		Expect(s.SetTag(repository, "v1", digest.FromString("x"))).To(Succeed())
		path := filepath.Join(root, "docker/registry/v2/repositories", repository, "_manifests/tags/v1/current/link")
		Expect(os.WriteFile(path, []byte("sha256:12"), 0o600)).To(Succeed())
		_, err := s.Tag(repository, "v1")
		Expect(err).To(MatchError(store.ErrNotFound))
	})

	Context("uploads", func() {
		It("can be read while they grow and after they were committed", func() {
			u, err := s.NewUpload(repository)
			Expect(err).NotTo(HaveOccurred())
			_, err = u.Write([]byte("one "))
			Expect(err).NotTo(HaveOccurred())
			reader, err := u.OpenReader()
			Expect(err).NotTo(HaveOccurred())
			defer reader.Close()
			_, err = u.Write([]byte("two"))
			Expect(err).NotTo(HaveOccurred())
			d := digest.FromString("one two")
			Expect(u.Commit(d)).To(Succeed())
			Expect(io.ReadAll(reader)).To(Equal([]byte("one two")))
			Expect(s.ReadBlob(d, 7)).To(Equal([]byte("one two")))
			_, err = s.ReadBlob(d, 6)
			Expect(err).To(HaveOccurred())
		})

		It("leave no files when they are discarded or orphaned", func() {
			orphan, err := s.NewUpload(repository)
			Expect(err).NotTo(HaveOccurred())
			_, _ = orphan.Write([]byte("x"))
			restarted, err := store.Open(root, nil)
			Expect(err).NotTo(HaveOccurred())
			Expect(restarted.RemoveOrphans()).To(Equal(1))
			discarded, err := s.NewUpload(repository)
			Expect(err).NotTo(HaveOccurred())
			discarded.Discard()
			discarded.Discard()
			for _, path := range files() {
				Expect(path).NotTo(ContainSubstring(repository))
			}
		})

		It("are recognized as orphans independent of the clock", func() {
			future, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
			orphan := filepath.Join(root, "docker/registry/v2/repositories", repository, "_uploads/orphan")
			Expect(os.MkdirAll(orphan, 0o700)).To(Succeed())
			Expect(os.Chtimes(orphan, future, future)).To(Succeed())
			upload, err := s.NewUpload(repository)
			Expect(err).NotTo(HaveOccurred())
			data, err := upload.OpenReader()
			Expect(err).NotTo(HaveOccurred())
			defer data.Close()
			Expect(os.Chtimes(data.Name(), past, past)).To(Succeed())

			Expect(s.RemoveOrphans()).To(Equal(1))
			Expect(orphan).NotTo(BeADirectory())
			Expect(upload.Commit(digest.FromString(""))).To(Succeed())
		})
	})

	It("recognizes a full disk", func() {
		s, err := store.Open(root, fullDisk{})
		Expect(err).NotTo(HaveOccurred())
		_, err = s.NewUpload(repository)
		Expect(store.IsFull(err)).To(BeTrue())
		Expect(store.IsFull(errors.New("other"))).To(BeFalse())
	})
})
