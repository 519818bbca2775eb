// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
)

var (
	list  = digest.FromString("list")
	image = digest.FromString("image")
	layer = digest.FromString("layer")
	other = digest.FromString("other")
)

var _ = Describe("Index", func() {
	var (
		path string
		now  time.Time
		x    *index.Index
	)

	open := func() {
		GinkgoHelper()
		var err error
		x, err = index.Open(path, func() time.Time { return now })
		Expect(err).NotTo(HaveOccurred())
	}
	reopen := func() {
		GinkgoHelper()
		Expect(x.Close()).To(Succeed())
		open()
	}
	used := func(d digest.Digest) time.Time {
		GinkgoHelper()
		record, ok := x.Get(d)
		Expect(ok).To(BeTrue())
		return record.Used
	}

	BeforeEach(func() {
		path = filepath.Join(GinkgoT().TempDir(), "pullthrough/index.db")
		now = time.UnixMilli(1_800_000_000_000)
		open()
		DeferCleanup(func() { _ = x.Close() })
	})

	It("keeps its records across restarts", func() {
		record := index.Record{Size: 42, Verified: now, Inode: 7, Changed: -3, Manifest: true, MediaType: "a/b"}
		Expect(x.Put(image, record)).To(Succeed())
		Expect(x.AddLink(image, index.Link{Kind: index.Manifest, Repository: "library/app"})).To(Succeed())
		Expect(x.SetValidated("library/app", "v1", image)).To(Succeed())
		x.Learn()()
		reopen()
		record.Used = now
		got, ok := x.Get(image)
		Expect(ok).To(BeTrue())
		Expect(got).To(Equal(record))
		Expect(x.Links(image)).To(ConsistOf(index.Link{Kind: index.Manifest, Repository: "library/app"}))
		Expect(x.Validated("library/app", "v1", image)).To(BeTemporally("==", now))
		Expect(x.Validated("library/app", "v1", other)).To(BeZero(), "the tag has moved since")
		Expect(x.Complete()).To(BeTrue())
		Expect(x.Measure()).To(Succeed())
		Expect(x.Total()).To(BeEquivalentTo(42))
	})

	It("counts the use of an image as a use of everything it needs", func() {
		Expect(x.Put(list, index.Record{Manifest: true})).To(Succeed())
		Expect(x.Put(image, index.Record{Manifest: true})).To(Succeed())
		Expect(x.Put(layer, index.Record{})).To(Succeed())
		Expect(x.Put(other, index.Record{})).To(Succeed())
		Expect(x.SetChildren(list, []digest.Digest{image})).To(Succeed())
		Expect(x.SetChildren(image, []digest.Digest{layer})).To(Succeed())
		begin := now
		now = now.Add(time.Hour)
		x.Touch(list)
		Expect(used(list)).To(BeTemporally("==", now), "a use counts before it is written")
		reopen()
		Expect(used(list)).To(BeTemporally("==", now))
		Expect(used(image)).To(BeTemporally("==", now))
		Expect(used(layer)).To(BeTemporally("==", now))
		Expect(used(other)).To(BeTemporally("==", begin))
	})

	It("handles an image that needs itself", func() {
		Expect(x.Put(image, index.Record{Manifest: true})).To(Succeed())
		Expect(x.SetChildren(image, []digest.Digest{image})).To(Succeed())
		now = now.Add(time.Hour)
		x.Touch(image)
		Expect(x.Flush()).To(Succeed())
		Expect(used(image)).To(BeTemporally("==", now))
	})

	It("writes a use once per object, even with many paths to it", func() {
		all := []index.Seen{{Digest: list, Record: index.Record{Manifest: true}}}
		above := []digest.Digest{list}
		for level, width := range []int{30, 30, 30, 2000} {
			var below []digest.Digest
			for i := range width {
				below = append(below, digest.FromString(fmt.Sprint(level, "/", i)))
				all = append(all, index.Seen{Digest: below[i], Record: index.Record{Manifest: width < 2000}})
			}
			for _, d := range above {
				Expect(x.SetChildren(d, below)).To(Succeed())
			}
			above = below
		}
		Expect(x.Add(all)).To(Succeed())
		now = now.Add(time.Hour)
		x.Touch(list)
		flushed := make(chan error, 1)
		go func() { flushed <- x.Flush() }()
		Eventually(flushed).Should(Receive(BeNil()))
		Expect(used(above[0])).To(BeTemporally("==", now))
	})

	It("keeps the latest of several uses", func() {
		Expect(x.Put(list, index.Record{Manifest: true})).To(Succeed())
		Expect(x.Put(image, index.Record{Manifest: true})).To(Succeed())
		Expect(x.Put(layer, index.Record{})).To(Succeed())
		Expect(x.SetChildren(list, []digest.Digest{image})).To(Succeed())
		Expect(x.SetChildren(image, []digest.Digest{layer})).To(Succeed())
		for _, order := range [][]digest.Digest{{list, image}, {image, list}} {
			for _, d := range order {
				now = now.Add(time.Hour)
				x.Touch(d)
			}
			Expect(x.Flush()).To(Succeed())
			Expect(used(layer)).To(BeTemporally("==", now))
		}
	})

	It("forgets everything about an object", func() {
		Expect(x.Put(image, index.Record{Manifest: true, Size: 5})).To(Succeed())
		Expect(x.SetChildren(image, []digest.Digest{layer})).To(Succeed())
		Expect(x.AddLink(image, index.Link{Kind: index.Manifest, Repository: "a"})).To(Succeed())
		Expect(x.Forget(image)).To(Succeed())
		_, ok := x.Get(image)
		Expect(ok).To(BeFalse())
		Expect(x.Links(image)).To(BeEmpty())
		Expect(x.Parents(layer, func(digest.Digest) bool {
			Fail("the layer still has a parent")
			return false
		})).To(Succeed())
		Expect(x.Total()).To(BeZero())
	})

	It("keeps the media type and proof of a manifest per repository, until it is forgotten", func() {
		proof := index.Link{Kind: index.Manifest, Repository: "a", MediaType: "a/image", Proof: true}
		found := index.Link{Kind: index.Manifest, Repository: "a"}
		other := index.Link{Kind: index.Manifest, Repository: "b", MediaType: "a/b"}
		Expect(x.Introduce(image, index.Record{Manifest: true}, nil, other)).To(Succeed())
		Expect(x.Introduce(image, index.Record{Manifest: true}, nil, proof)).To(Succeed())
		Expect(x.AddLinks(found, []digest.Digest{image})).To(Succeed())
		reopen()
		Expect(x.Manifest("a", image)).To(Equal(proof))
		Expect(x.Manifest("b", image)).To(Equal(other))
		Expect(x.Links(image)).To(ConsistOf(found, index.Link{Kind: index.Manifest, Repository: "b"}))
		Expect(x.Forget(image)).To(Succeed())
		Expect(x.AddLink(image, found)).To(Succeed())
		Expect(x.Manifest("a", image)).To(Equal(found))
	})

	It("adds unknown objects and keeps known ones", func() {
		Expect(x.Put(image, index.Record{Size: 1, MediaType: "known"})).To(Succeed())
		Expect(x.Add([]index.Seen{{Digest: image, Record: index.Record{Size: 2}}, {Digest: layer, Record: index.Record{Size: 3}}})).To(Succeed())
		record, _ := x.Get(image)
		Expect(record.MediaType).To(Equal("known"))
		Expect(x.Total()).To(BeEquivalentTo(4))
	})

	It("visits all records while they change", func() {
		var found []index.Seen
		for i := range 1100 {
			found = append(found, index.Seen{Digest: digest.FromBytes([]byte{byte(i), byte(i >> 8)})})
		}
		Expect(x.Add(found)).To(Succeed())
		seen := map[digest.Digest]bool{}
		Expect(x.Each(func(d digest.Digest, _ index.Record) error {
			seen[d] = true
			return x.Forget(d)
		})).To(Succeed())
		Expect(seen).To(HaveLen(1100))
	})

	It("is not complete after a crash", func() {
		x.Learn()()
		reopen()
		Expect(x.Complete()).To(BeTrue())
		content, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		crashed := filepath.Join(GinkgoT().TempDir(), "index.db")
		Expect(os.WriteFile(crashed, content, 0o600)).To(Succeed())
		left, err := index.Open(crashed, time.Now)
		Expect(err).NotTo(HaveOccurred())
		Expect(left.Complete()).To(BeFalse())
		Expect(left.Close()).To(Succeed())
	})

	It("renames a broken file and starts with an empty one", func() {
		Expect(x.Close()).To(Succeed())
		Expect(os.WriteFile(path, bytes.Repeat([]byte("broken"), 10_000), 0o600)).To(Succeed())
		open()
		Expect(x.Complete()).To(BeFalse())
		Expect(path + ".broken").To(BeARegularFile())
	})

	It("knows nothing while the disk fails, and has its records afterwards", func() {
		Expect(x.Put(image, index.Record{Size: 1})).To(Succeed())
		Expect(x.Close()).To(Succeed())
		dir := filepath.Dir(path)
		Expect(os.Rename(dir, dir+".kept")).To(Succeed())
		Expect(os.WriteFile(dir, nil, 0o600)).To(Succeed()) // ENOTDIR
		open()
		Expect(x.Ready()).To(BeFalse())
		_, ok := x.Get(image)
		Expect(ok).To(BeFalse())
		Expect(x.Put(image, index.Record{})).NotTo(Succeed())
		Expect(x.Reopen()).To(MatchError(syscall.ENOTDIR))

		Expect(os.Remove(dir)).To(Succeed())
		Expect(os.Rename(dir+".kept", dir)).To(Succeed())
		Expect(x.Reopen()).To(Succeed())
		Expect(x.Ready()).To(BeTrue())
		_, ok = x.Get(image)
		Expect(ok).To(BeTrue())
	})

	It("keeps a file that the system cannot open, and replaces one that a full disk left incomplete", func() {
		Expect(x.Close()).To(Succeed())
		Expect(os.Remove(path)).To(Succeed())
		Expect(os.Symlink(path, path)).To(Succeed()) // ELOOP
		open()
		Expect(x.Ready()).To(BeFalse())
		Expect(path + ".broken").NotTo(BeAnExistingFile())
		x.Touch(image)
		Expect(x.Close()).To(Succeed(), "no file to write to")

		Expect(os.Remove(path)).To(Succeed())
		Expect(os.WriteFile(path, make([]byte, os.Getpagesize()), 0o600)).To(Succeed())
		open()
		Expect(x.Put(image, index.Record{})).To(Succeed())
	})

	It("opens a truncated file", func() {
		for i := range 200 {
			Expect(x.Put(digest.FromBytes([]byte{byte(i)}), index.Record{MediaType: string(bytes.Repeat([]byte("x"), 200))})).To(Succeed())
		}
		Expect(x.Close()).To(Succeed())
		info, err := os.Stat(path)
		Expect(err).NotTo(HaveOccurred())
		for _, size := range []int64{info.Size() / 2, info.Size() / 8, 1} {
			Expect(os.Truncate(path, size)).To(Succeed())
			open()
			_, _ = x.Get(image)
			_ = x.Put(image, index.Record{})
			_ = x.Close()
		}
		open()
		Expect(x.Put(image, index.Record{Size: 1})).To(Succeed())
	})

	It("renames a file that is shorter than its header says", func() {
		found := make([]index.Seen, 2000)
		for i := range found {
			found[i] = index.Seen{Digest: digest.FromString(fmt.Sprint(i)), Record: index.Record{MediaType: strings.Repeat("x", 200)}}
		}
		Expect(x.Add(found)).To(Succeed())
		Expect(x.Close()).To(Succeed())
		db, err := bolt.Open(path, 0o600, nil)
		Expect(err).NotTo(HaveOccurred())
		var size int64
		Expect(db.View(func(tx *bolt.Tx) error {
			size = tx.Size()
			return nil
		})).To(Succeed())
		Expect(db.Close()).To(Succeed())
		Expect(os.Truncate(path, size-1)).To(Succeed())
		open()
		Expect(path + ".broken").To(BeARegularFile())
		Expect(x.Put(image, index.Record{})).To(Succeed())
	})

	It("starts with an empty file if its file is truncated while open", func() {
		complete := x.Learn()
		Expect(x.Put(image, index.Record{Size: 1})).To(Succeed())
		Expect(os.Truncate(path, 1)).To(Succeed())
		_, ok := x.Get(image)
		Expect(ok).To(BeFalse())
		Expect(x.Put(image, index.Record{Size: 2})).To(Succeed())
		complete()
		Expect(x.Complete()).To(BeFalse(), "the walk began with another index")
		reopen()
		record, ok := x.Get(image)
		Expect(ok).To(BeTrue())
		Expect(record.Size).To(BeEquivalentTo(2))
	})

	It("does not share its file with another process", func() {
		_, err := index.Open(path, time.Now)
		Expect(err).To(MatchError(index.ErrLocked))
	})

	It("frees its memory after a walk", func() {
		var found []index.Seen
		var objects []digest.Digest
		for i := range 5000 {
			objects = append(objects, digest.FromString(fmt.Sprint(i)))
			found = append(found, index.Seen{Digest: objects[i], Record: index.Record{Size: 1}})
		}
		ofFile := func() (resident int) {
			maps, err := os.ReadFile("/proc/self/smaps")
			Expect(err).NotTo(HaveOccurred())
			_, mapping, ok := strings.Cut(string(maps), path)
			Expect(ok).To(BeTrue())
			_, mapping, _ = strings.Cut(mapping, "Rss:")
			_, err = fmt.Sscan(mapping, &resident)
			Expect(err).NotTo(HaveOccurred())
			return resident
		}
		Expect(x.Add(found)).To(Succeed())
		info, err := os.Stat(path)
		Expect(err).NotTo(HaveOccurred())
		few := int(info.Size()>>10) / 4 // in KiB; independent of the page size
		Expect(ofFile()).To(BeNumerically("<", few))
		Expect(x.AddLinks(index.Link{Kind: index.Layer, Repository: "library/app"}, objects)).To(Succeed())
		Expect(ofFile()).To(BeNumerically("<", few))
		visited := 0
		Expect(x.Each(func(digest.Digest, index.Record) error {
			visited++
			return nil
		})).To(Succeed())
		Expect(visited).To(Equal(len(objects)))
		Expect(ofFile()).To(BeNumerically("<", few))
	})
})
