// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"iter"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/volume"
)

// Blob is an open file of content.
type Blob struct {
	*os.File
	Size   int64
	volume *volume.Monitor
	// info is the state of the file when it was opened.
	info os.FileInfo
	// Verified is when the file was last verified; zero if it has to be verified, because it never was or has changed
	// since.
	Verified time.Time
}

// Read implements io.Reader.
func (b *Blob) Read(p []byte) (int, error) {
	defer b.volume.Read().Returned()
	return b.File.Read(p)
}

// Open opens the content of a digest. The error is ErrNotFound if there is none.
func (c *Content) Open(d digest.Digest) (*Blob, error) {
	defer c.volume.Read().Returned()
	file, info, err := c.store.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	return &Blob{File: file, Size: info.Size(), volume: c.volume, info: info, Verified: c.verifiedAt(d, info)}, nil
}

// verifiedAt returns when a file was verified, or zero if it has changed since.
func (c *Content) verifiedAt(d digest.Digest, info os.FileInfo) time.Time {
	record, known := c.index.Get(d)
	inode, changed := store.Identity(info)
	if !known || record.Size != info.Size() || record.Inode != inode || record.Changed != changed {
		return time.Time{}
	}
	return record.Verified
}

// Size returns the size of the content on disk, verified or not.
func (c *Content) Size(d digest.Digest) (int64, error) {
	defer c.volume.Read().Returned()
	info, err := c.store.StatBlob(d)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// IsVerified reports whether content is on disk as it was when it was last verified.
func (c *Content) IsVerified(d digest.Digest) bool {
	defer c.volume.Read().Returned()
	info, err := c.store.StatBlob(d)
	return err == nil && !c.verifiedAt(d, info).IsZero()
}

// Discover records content that is on disk and may be unknown, before it is verified.
func (c *Content) Discover(d digest.Digest, size int64) {
	defer c.volume.Sync().Returned()
	if _, known := c.index.Get(d); !known {
		c.warn(c.index.Put(d, index.Record{Size: size}), "Failed to record a blob", logrus.Fields{"digest": d})
	}
}

// MarkVerified records that a file, in the state in which it was opened, matches its digest.
func (c *Content) MarkVerified(d digest.Digest, file *Blob) {
	defer c.volume.Sync().Returned()
	c.warn(c.keeper.MarkVerified(d, file.info), "Failed to record a verification", logrus.Fields{"digest": d})
}

// Ownership is why a repository may serve a blob without asking the upstream.
type Ownership int

const (
	// None is no reason.
	None Ownership = iota
	// Proved means that an image of the repository needs the blob: registries accept an image only if they have its
	// blobs. An index is no proof: many registries accept one whatever it lists. Nor is a document that only some
	// parsers take for an image: a registry that parsed it differently did not check for the layers.
	Proved
	// Linked means that the blob was served from the repository before.
	Linked
)

// Ownership returns why a repository may serve a blob.
func (c *Content) Ownership(repository string, d digest.Digest) Ownership {
	defer c.volume.Read().Returned()
	if c.store.HasLayer(repository, d) {
		return Linked
	}
	for image := range c.ImagesWith(repository, d) {
		if c.index.Manifest(repository, image).Proof {
			return Proved
		}
	}
	return None
}

// IsLinked reports whether a blob was served from a repository before.
func (c *Content) IsLinked(repository string, d digest.Digest) bool {
	defer c.volume.Read().Returned()
	return c.store.HasLayer(repository, d)
}

// Link makes a blob part of a repository, for later requests.
func (c *Content) Link(repository string, d digest.Digest) {
	defer c.volume.Sync().Returned()
	if c.store.HasLayer(repository, d) {
		return
	}
	err := c.index.AddLink(d, index.Link{Kind: index.Layer, Repository: repository})
	if err == nil {
		err = c.store.LinkLayer(repository, d)
	}
	c.warn(err, "Failed to link a blob", logrus.Fields{"repository": repository, "digest": d})
}

// ImagesWith visits the images of a repository that need a blob.
func (c *Content) ImagesWith(repository string, d digest.Digest) iter.Seq[digest.Digest] {
	return func(visit func(digest.Digest) bool) {
		for _, parent := range c.parents(d) {
			if c.isImage(repository, parent) && !visit(parent) {
				return
			}
		}
	}
}

func (c *Content) parents(d digest.Digest) (parents []digest.Digest) {
	defer c.volume.Read().Returned()
	_ = c.index.Parents(d, func(parent digest.Digest) bool {
		parents = append(parents, parent)
		return true
	})
	return parents
}

func (c *Content) isImage(repository string, d digest.Digest) bool {
	defer c.volume.Read().Returned()
	record, known := c.index.Get(d)
	return known && record.Manifest && !manifest.IsIndex(record.MediaType) && c.store.HasManifest(repository, d)
}
