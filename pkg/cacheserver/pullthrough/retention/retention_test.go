// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package retention_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

const repository = "library/app"

// volume is a Disk that has the space that a test says, and creates real files.
type volume struct {
	capacity int64
	others   int64
	ours     func() int64
}

func (v *volume) Create(path string) (store.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (v *volume) Space(string) (store.Space, error) {
	return store.Space{Total: uint64(v.capacity), Free: uint64(max(0, v.capacity-v.others-v.ours()))}, nil
}

var _ = Describe("Keeper", func() {
	var (
		disk   *volume
		files  *store.Store
		known  *index.Index
		keeper *retention.Keeper
		now    time.Time
		busy   atomic.Value
	)

	BeforeEach(func() {
		root := GinkgoT().TempDir()
		now = time.Now()
		busy.Store(digest.Digest(""))
		disk = &volume{capacity: 1000, ours: func() int64 { return known.Total() }}
		var err error
		files, err = store.Open(root, disk)
		Expect(err).NotTo(HaveOccurred())
		known, err = index.Open(filepath.Join(root, "pullthrough/index.db"), func() time.Time { return now })
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { Expect(known.Close()).To(Succeed()) })
		log := logrus.New()
		log.SetOutput(GinkgoWriter)
		keeper = &retention.Keeper{
			Options: retention.Options{TTL: time.Hour, High: 0.9, Low: 0.5, ScrubInterval: time.Hour},
			Store:   files, Index: known, Metrics: metrics.New(prometheus.NewRegistry()), Log: log,
			Now:  func() time.Time { return now },
			Busy: func(d digest.Digest) bool { return d == busy.Load().(digest.Digest) },
		}
	})

	// put stores an object of so many bytes and links it.
	put := func(content string, kind index.Kind, children ...digest.Digest) digest.Digest {
		GinkgoHelper()
		d := digest.FromString(content)
		Expect(known.Put(d, index.Record{Size: int64(len(content)), Manifest: kind == index.Manifest})).To(Succeed())
		Expect(known.SetChildren(d, children)).To(Succeed())
		Expect(known.AddLink(d, index.Link{Kind: kind, Repository: repository})).To(Succeed())
		if kind == index.Manifest {
			Expect(files.LinkManifest(repository, d)).To(Succeed())
		} else {
			Expect(files.LinkLayer(repository, d)).To(Succeed())
		}
		Expect(files.PutBlob(repository, d, []byte(content))).To(Succeed())
		return d
	}
	stored := func(d digest.Digest) bool {
		_, err := files.StatBlob(d)
		return err == nil
	}
	bytesOf := func(n int, content string) string {
		padded := make([]byte, n)
		copy(padded, content)
		return string(padded)
	}

	It("expires unused objects with their links and tags, and keeps what a used image needs", func(ctx context.Context) {
		known.Learn()()
		shared, own := put("shared", index.Layer), put("own", index.Layer)
		used := put("used", index.Manifest, shared)
		unused := put("unused", index.Manifest, shared, own)
		Expect(files.SetTag(repository, "used", used)).To(Succeed())
		Expect(files.SetTag(repository, "unused", unused)).To(Succeed())
		now = now.Add(40 * time.Minute)
		known.Touch(used)
		now = now.Add(40 * time.Minute)
		Expect(keeper.Tick(ctx)).To(Succeed())
		Expect(stored(used)).To(BeTrue())
		Expect(stored(shared)).To(BeTrue())
		Expect(stored(unused)).To(BeFalse())
		Expect(stored(own)).To(BeFalse())
		Expect(files.HasLayer(repository, own)).To(BeFalse())
		Expect(files.HasManifest(repository, unused)).To(BeFalse())
		_, err := files.Tag(repository, "unused")
		Expect(err).To(MatchError(store.ErrNotFound))
		Expect(files.Tag(repository, "used")).To(Equal(used))
		Expect(known.Total()).To(BeEquivalentTo(len("shared") + len("used")))
	})

	It("counts content once whose links cannot be removed", func() {
		d := put("image", index.Manifest)
		tags := filepath.Join(files.Root(), "docker/registry/v2/repositories", repository, "_manifests/tags")
		Expect(os.WriteFile(tags, nil, 0o600)).To(Succeed()) // in the way
		Expect(keeper.Remove(d, retention.Expired)).NotTo(Succeed())
		Expect(stored(d)).To(BeFalse())
		Expect(known.Total()).To(BeZero())
		_, ok := known.Get(d)
		Expect(ok).To(BeFalse())
	})

	It("does not expire busy objects, with an incomplete index, or without a time to live", func(ctx context.Context) {
		d := put("content", index.Layer)
		now = now.Add(2 * time.Hour)
		Expect(keeper.Tick(ctx)).To(Succeed())
		Expect(stored(d)).To(BeTrue())
		known.Learn()()
		busy.Store(d)
		Expect(keeper.Tick(ctx)).To(Succeed())
		Expect(stored(d)).To(BeTrue())
		busy.Store(digest.Digest(""))
		keeper.Options.TTL = 0
		Expect(keeper.Tick(ctx)).To(Succeed())
		Expect(stored(d)).To(BeTrue())
		keeper.Options.TTL = time.Hour
		Expect(keeper.Tick(ctx)).To(Succeed())
		Expect(stored(d)).To(BeFalse())
	})

	Context("making room", func() {
		It("evicts the least recently used objects down to the low watermark", func() {
			var objects []digest.Digest
			for i := range 8 {
				objects = append(objects, put(bytesOf(100, string(rune('a'+i))), index.Layer))
				now = now.Add(time.Second)
			}
			known.Touch(objects[0])
			release, err := keeper.MakeRoom(200)
			Expect(err).NotTo(HaveOccurred())
			defer release()
			var left []int
			for i, d := range objects {
				if stored(d) {
					left = append(left, i)
				}
			}
			Expect(left).To(Equal([]int{0, 6, 7}), "800 used and 200 wanted, down to 500")
		})

		It("evicts an image before what it needs", func() {
			layer := put(bytesOf(300, "layer"), index.Layer)
			image := put(bytesOf(500, "image"), index.Manifest, layer)
			known.Touch(image)
			_, err := keeper.MakeRoom(150)
			Expect(err).NotTo(HaveOccurred())
			Expect(stored(image)).To(BeFalse())
			Expect(stored(layer)).To(BeTrue())
		})

		It("evicts nothing for an object that cannot fit", func() {
			d := put(bytesOf(300, "x"), index.Layer)
			disk.others = 500
			_, err := keeper.MakeRoom(600)
			Expect(err).To(MatchError(retention.ErrFull))
			Expect(stored(d)).To(BeTrue())
		})

		It("does not empty the cache when others fill the volume", func() {
			d := put(bytesOf(20, "x"), index.Layer)
			disk.others = 950
			release, err := keeper.MakeRoom(10)
			Expect(err).NotTo(HaveOccurred())
			release()
			Expect(stored(d)).To(BeTrue())
		})

		It("counts the reservations of others", func() {
			release, err := keeper.MakeRoom(600)
			Expect(err).NotTo(HaveOccurred())
			_, err = keeper.MakeRoom(600)
			Expect(err).To(MatchError(retention.ErrFull))
			release()
			release, err = keeper.MakeRoom(600)
			Expect(err).NotTo(HaveOccurred())
			release()
		})

		It("counts reserved bytes once when they are written", func() {
			writing, err := keeper.Reserve(600)
			Expect(err).NotTo(HaveOccurred())
			disk.others = 400
			writing.Wrote(400)
			other, err := keeper.Reserve(300)
			Expect(err).NotTo(HaveOccurred())
			other.Release()
			_, err = keeper.Reserve(400)
			Expect(err).To(MatchError(retention.ErrFull), "200 are still promised")
			disk.others = 500
			writing.Release()
			writing.Wrote(100)
			_, err = keeper.Reserve(500)
			Expect(err).To(MatchError(retention.ErrFull), "nothing is given back twice")
			_, err = keeper.Reserve(450)
			Expect(err).NotTo(HaveOccurred())
		})
	})

	It("records what another server stored, and forgets what is gone", func(ctx context.Context) {
		config := digest.FromString("{}")
		manifest := []byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{"digest":"` + config.String() + `"}]}`)
		d := digest.FromBytes(manifest)
		Expect(files.PutBlob(repository, config, []byte("{}"))).To(Succeed())
		Expect(files.LinkLayer(repository, config)).To(Succeed())
		Expect(files.PutBlob(repository, d, manifest)).To(Succeed())
		Expect(files.LinkManifest(repository, d)).To(Succeed())
		gone := digest.FromString("gone")
		Expect(known.Put(gone, index.Record{Size: 4})).To(Succeed())

		Expect(keeper.Reconcile(ctx)).To(Succeed())
		record, ok := known.Get(d)
		Expect(ok).To(BeTrue())
		Expect(record.Manifest).To(BeTrue())
		Expect(record.Used).To(BeTemporally("~", now, time.Millisecond))
		Expect(record.Verified).To(BeZero())
		Expect(known.Links(config)).To(ConsistOf(index.Link{Kind: index.Layer, Repository: repository}))
		var parents []digest.Digest
		Expect(known.Parents(config, func(m digest.Digest) bool {
			parents = append(parents, m)
			return true
		})).To(Succeed())
		Expect(parents).To(ConsistOf(d))
		_, ok = known.Get(gone)
		Expect(ok).To(BeFalse())
		Expect(known.Complete()).To(BeTrue())
	})

	It("removes links to objects that are neither stored nor on their way", func(ctx context.Context) {
		layer, image, coming := digest.FromString("layer"), digest.FromString("image"), digest.FromString("coming")
		there := put("there", index.Layer)
		for _, d := range []digest.Digest{layer, coming} {
			Expect(files.LinkLayer(repository, d)).To(Succeed())
		}
		Expect(files.LinkManifest(repository, image)).To(Succeed())
		Expect(files.SetTag(repository, "v1", image)).To(Succeed())
		Expect(files.SetTag(repository, "v2", digest.FromString("never stored"))).To(Succeed())
		alive := put("alive", index.Manifest)
		Expect(files.SetTag(repository, "v3", alive)).To(Succeed())
		Expect(known.Put(layer, index.Record{Size: 5})).To(Succeed()) // as a crash before the content leaves it
		busy.Store(coming)

		Expect(keeper.Reconcile(ctx)).To(Succeed())
		Expect(files.HasLayer(repository, layer)).To(BeFalse())
		Expect(files.HasManifest(repository, image)).To(BeFalse())
		for _, tag := range []string{"v1", "v2"} {
			_, err := files.Tag(repository, tag)
			Expect(err).To(MatchError(store.ErrNotFound))
		}
		Expect(files.Tag(repository, "v3")).To(Equal(alive))
		Expect(files.HasLayer(repository, coming)).To(BeTrue())
		Expect(files.HasLayer(repository, there)).To(BeTrue())
		Expect(known.Total()).To(BeEquivalentTo(len("there") + len("alive")))
	})

	It("finds corrupt content", func(ctx context.Context) {
		good, bad := put("good", index.Layer), put("bad", index.Layer)
		matches, err := filepath.Glob(filepath.Join(files.Root(), "docker/registry/v2/blobs/sha256/*", bad.Encoded(), "data"))
		Expect(err).NotTo(HaveOccurred())
		Expect(matches).To(HaveLen(1))
		Expect(os.WriteFile(matches[0], []byte("rot"), 0o600)).To(Succeed())
		Expect(keeper.ScrubOnce(ctx)).To(Succeed())
		Expect(stored(bad)).To(BeFalse())
		Expect(files.HasLayer(repository, bad)).To(BeFalse())
		Expect(stored(good)).To(BeTrue())
		record, _ := known.Get(good)
		Expect(record.Verified).To(BeTemporally("~", now, time.Millisecond))
	})

	It("removes corrupt content even if its links are unknown", func(ctx context.Context) {
		layer, image := put("layer", index.Layer), put("image", index.Manifest)
		obstacle := filepath.Join(files.Root(), "obstacle")
		Expect(os.WriteFile(obstacle, nil, 0o600)).To(Succeed())
		late, err := index.Open(filepath.Join(obstacle, "index.db"), func() time.Time { return now })
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { Expect(late.Close()).To(Succeed()) })
		Expect(late.Ready()).To(BeFalse())
		keeper.Index = late

		for _, d := range []digest.Digest{layer, image} {
			Expect(keeper.Remove(d, retention.Corrupt)).NotTo(Succeed(), "its links are still there")
			Expect(stored(d)).To(BeFalse())
		}
		Expect(os.Remove(obstacle)).To(Succeed())
		Expect(late.Reopen()).To(Succeed())
		Expect(keeper.Reconcile(ctx)).To(Succeed())
		Expect(files.HasLayer(repository, layer)).To(BeFalse())
		Expect(files.HasManifest(repository, image)).To(BeFalse())
	})
})
