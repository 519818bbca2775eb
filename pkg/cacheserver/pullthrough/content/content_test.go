// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package content_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

const (
	repository = "library/app"
	other      = "library/other"
	image      = "application/vnd.oci.image.manifest.v1+json"
)

// disk is a volume that takes so many bytes.
type disk struct{ left int }

// Create implements store.Disk.
func (d *disk) Create(path string) (store.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return &diskFile{file, d}, err
}

// Space implements store.Disk.
func (d *disk) Space(string) (store.Space, error) {
	return store.Space{Total: 1 << 30, Free: uint64(max(0, d.left))}, nil
}

type diskFile struct {
	*os.File
	disk *disk
}

// Write implements io.Writer.
func (f *diskFile) Write(p []byte) (int, error) {
	f.disk.left -= len(p)
	return f.File.Write(p)
}

func open(t *testing.T, disk store.Disk) (c *content.Content, root string) {
	t.Helper()
	c = openWith(t, disk, func(o *content.Options) { root = o.RootDirectory })
	return c, root
}

func openWith(t *testing.T, disk store.Disk, change func(*content.Options)) *content.Content {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	o := content.Options{
		RootDirectory: t.TempDir(), Disk: disk, Retention: retention.Options{High: 1, Low: 1},
		Busy:    func(digest.Digest) bool { return false },
		Metrics: metrics.New(prometheus.NewRegistry()), Log: log, Now: time.Now,
	}
	change(&o)
	c, err := content.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func commit(g Gomega, c *content.Content, document string, size int64) digest.Digest {
	d := digest.FromString(document)
	u, err := c.NewUpload(repository, d, size)
	g.Expect(err).NotTo(HaveOccurred())
	defer u.Discard()
	g.Expect(u.Write([]byte(document))).To(Equal(len(document)))
	g.Expect(u.Commit()).To(Succeed())
	return d
}

func storeManifest(g Gomega, c *content.Content, repository, document string, proof bool) digest.Digest {
	info, err := manifest.Parse([]byte(document), image)
	g.Expect(err).NotTo(HaveOccurred())
	m := content.Manifest{Digest: digest.FromString(document), MediaType: info.MediaType, Content: []byte(document), Proof: proof}
	g.Expect(c.StoreManifest(repository, m, info)).To(Succeed())
	return m.Digest
}

func blobFile(root string, d digest.Digest) string {
	return filepath.Join(root, "docker/registry/v2/blobs/sha256", d.Encoded()[:2], d.Encoded(), "data")
}

func TestEvictionDoesNotLookLikeAVolumeThatHangs(t *testing.T) {
	g := NewWithT(t)
	const limit, removal = 200 * time.Millisecond, 500 * time.Millisecond
	monitor := volume.New(limit)
	go monitor.Run(t.Context(), nil, func(bool) {})
	var evicting atomic.Bool
	d := &disk{left: 1 << 30}
	c := openWith(t, d, func(o *content.Options) {
		o.Volume = monitor
		o.Busy = func(digest.Digest) bool { // It is called for each removal.
			if evicting.Load() {
				time.Sleep(removal)
			}
			return false
		}
	})
	for i := range 5 {
		commit(g, c, fmt.Sprintf("document %d", i), 10)
	}
	g.Eventually(monitor.Hangs).Should(BeFalse()) // The machine may be slow.
	hanging := monitor.Hanging()
	d.left = 1<<30/100 + 50
	evicting.Store(true)
	began := time.Now()
	_, err := c.NewUpload(repository, digest.FromString("large"), 100)
	g.Expect(content.IsFull(err)).To(BeTrue(), "since the disk of this test gains nothing by removals")
	g.Expect(time.Since(began)).To(BeNumerically(">", 3*limit))
	g.Expect(hanging).NotTo(BeClosed())
}

func TestACommittedBlobIsVerifiedAndLinked(t *testing.T) {
	for _, size := range []int64{4, content.UnknownSize} {
		g := NewWithT(t)
		c, root := open(t, nil)
		d := commit(g, c, "blob", size)
		g.Expect(c.IsVerified(d)).To(BeTrue())
		g.Expect(c.Ownership(repository, d)).To(Equal(content.Linked))
		g.Expect(c.Ownership(other, d)).To(Equal(content.None))
		b, err := c.Open(d)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(b.Size).To(BeEquivalentTo(4))
		g.Expect(b.Verified).NotTo(BeZero())
		g.Expect(b.Close()).To(Succeed())

		c.Link(other, d)
		g.Expect(c.Ownership(other, d)).To(Equal(content.Linked))

		g.Expect(os.WriteFile(blobFile(root, d), []byte("rot"), 0o600)).To(Succeed())
		b, err = c.Open(d)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(b.Verified).To(BeZero(), "the file has changed")
		g.Expect(b.Close()).To(Succeed())
		g.Expect(c.IsVerified(d)).To(BeFalse())

		g.Expect(c.DropCorrupt(d, store.ErrMismatch)).To(Succeed())
		_, err = c.Open(d)
		g.Expect(err).To(MatchError(content.ErrNotFound))
		g.Expect(c.Ownership(repository, d)).To(Equal(content.None))
	}
}

func TestAnImageProvesThatItsRepositoryHasItsLayers(t *testing.T) {
	for _, proof := range []bool{true, false} {
		g := NewWithT(t)
		c, _ := open(t, nil)
		layer := commit(g, c, "blob", 4)
		document := `{"schemaVersion":2,"mediaType":"` + image + `","layers":[{"digest":"` + layer.String() + `","size":4}]}`
		d := storeManifest(g, c, other, document, proof)
		expected := content.None
		if proof {
			expected = content.Proved
		}
		g.Expect(c.Ownership(other, layer)).To(Equal(expected))
		g.Expect(c.Ownership("library/third", layer)).To(Equal(content.None))
		m, err := c.Manifest(other, d)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(m).To(Equal(content.Manifest{Digest: d, MediaType: image, Content: []byte(document), Proof: proof}))
	}
}

func TestACorruptManifestIsDropped(t *testing.T) {
	g := NewWithT(t)
	c, root := open(t, nil)
	d := storeManifest(g, c, repository, `{"schemaVersion":2,"mediaType":"`+image+`"}`, true)
	g.Expect(os.WriteFile(blobFile(root, d), []byte("rot"), 0o600)).To(Succeed())
	_, err := c.Manifest(repository, d)
	g.Expect(err).To(MatchError(store.ErrMismatch))
	g.Expect(c.HasManifest(repository, d)).To(BeFalse())
	g.Expect(blobFile(root, d)).NotTo(BeAnExistingFile())
}

func TestAnUploadReservesItsSpace(t *testing.T) {
	g := NewWithT(t)
	const free = 100 << 20
	volume := &disk{left: free}
	c, _ := open(t, volume)
	first, err := c.NewUpload(repository, digest.FromString("first"), 60<<20)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = c.NewUpload(repository, digest.FromString("second"), 60<<20)
	g.Expect(content.IsFull(err)).To(BeTrue(), "%v", err)
	first.Discard()
	second, err := c.NewUpload(repository, digest.FromString("second"), 60<<20)
	g.Expect(err).NotTo(HaveOccurred())
	second.Discard()
}

func TestAReaderOfAnUploadKeepsReadingAfterTheCommit(t *testing.T) {
	g := NewWithT(t)
	c, _ := open(t, nil)
	d := digest.FromString("blob")
	u, err := c.NewUpload(repository, d, 4)
	g.Expect(err).NotTo(HaveOccurred())
	defer u.Discard()
	g.Expect(u.Write([]byte("bl"))).To(Equal(2))
	before, err := u.OpenReader()
	g.Expect(err).NotTo(HaveOccurred())
	defer before.Close()
	g.Expect(u.Write([]byte("ob"))).To(Equal(2))
	g.Expect(u.Commit()).To(Succeed())
	after, err := u.OpenReader()
	g.Expect(err).NotTo(HaveOccurred())
	defer after.Close()
	for _, reader := range []*os.File{before, after} {
		g.Expect(io.ReadAll(reader)).To(BeEquivalentTo("blob"))
	}
}

func TestTags(t *testing.T) {
	g := NewWithT(t)
	c, _ := open(t, nil)
	d := digest.FromString("manifest")
	_, ok := c.Tag(repository, "v1")
	g.Expect(ok).To(BeFalse())
	g.Expect(c.SetTag(repository, "v1", d, false)).To(BeTrue())
	g.Expect(c.TagValidated(repository, "v1", d)).To(BeZero())
	g.Expect(c.SetTag(repository, "v1", d, true)).To(BeTrue())
	g.Expect(c.TagValidated(repository, "v1", d)).To(BeTemporally("~", time.Now(), time.Minute))
	g.Expect(c.TagValidated(repository, "v1", digest.FromString("another"))).To(BeZero())
	stored, ok := c.Tag(repository, "v1")
	g.Expect(ok).To(BeTrue())
	g.Expect(stored).To(Equal(d))
}
