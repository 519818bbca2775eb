// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"errors"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// Manifest is a manifest as the upstream sent it to a repository. It matches its digest.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Content   []byte
	// Proof is set if the Content-Type of the upstream's response matches the media type in the document; see Proved.
	Proof bool
	// Apart means that the repository is not known to have the manifest for all of its clients: it was fetched for a
	// request with the permission of the cache itself, to which the upstream may show more.
	Apart bool
}

// HasManifest reports whether a repository links a manifest. Being listed in an index of the repository is not enough:
// only a manifest that was served from the repository is linked.
func (c *Content) HasManifest(repository string, d digest.Digest) bool {
	defer c.volume.Read().Returned()
	return c.store.HasManifest(repository, d)
}

// OwnsManifest reports whether a manifest is part of a repository for all clients of the repository.
func (c *Content) OwnsManifest(repository string, d digest.Digest) bool {
	defer c.volume.Read().Returned()
	return c.store.HasManifest(repository, d) && c.index.Manifest(repository, d).Owned
}

// OwnManifest makes a manifest that a repository links part of it for all clients of the repository.
func (c *Content) OwnManifest(repository string, m Manifest) {
	defer c.volume.Sync().Returned()
	if !c.store.HasManifest(repository, m.Digest) {
		return
	}
	m.Apart = false
	err := c.index.AddLink(m.Digest, m.link(repository))
	c.warn(err, "Failed to record a manifest", logrus.Fields{"repository": repository, "digest": m.Digest})
}

func (m Manifest) link(repository string) index.Link {
	return index.Link{Kind: index.Manifest, Repository: repository, MediaType: m.MediaType, Proof: m.Proof, Owned: !m.Apart}
}

// Manifest reads a manifest of a repository and verifies it. Content that does not match is dropped.
func (c *Content) Manifest(repository string, d digest.Digest) (Manifest, error) {
	defer c.volume.Read().Returned()
	content, err := c.store.ReadBlob(d, manifest.MaxBytes)
	if err != nil {
		return Manifest{}, err
	}
	if d.Algorithm().FromBytes(content) != d {
		return Manifest{}, errors.Join(store.ErrMismatch, c.keeper.DropCorrupt(d, store.ErrMismatch))
	}
	link := c.index.Manifest(repository, d)
	m := Manifest{Digest: d, MediaType: link.MediaType, Content: content, Proof: link.Proof, Apart: !link.Owned}
	if m.MediaType == "" {
		info, err := manifest.Parse(content, "")
		if err != nil {
			return Manifest{}, err
		}
		m.MediaType = info.MediaType
		c.describe(repository, m, info)
	}
	return m, nil
}

// StoreManifest stores a manifest of a repository.
func (c *Content) StoreManifest(repository string, m Manifest, info manifest.Info) error {
	room, err := c.keeper.Reserve(int64(len(m.Content)))
	if err != nil {
		return err
	}
	defer room.Release()
	defer c.store.Lock(m.Digest)()
	defer c.volume.Sync().Returned() // Without the lock, which the long removal of other content may hold.
	c.describe(repository, m, info)
	if err := c.store.LinkManifest(repository, m.Digest); err != nil {
		return err
	}
	if _, err := c.store.StatBlob(m.Digest); err == nil {
		return nil
	}
	return c.store.PutBlob(repository, m.Digest, m.Content)
}

// describe records what a manifest of a repository is and needs.
func (c *Content) describe(repository string, m Manifest, info manifest.Info) {
	record := index.Record{Size: int64(len(m.Content)), Manifest: true, MediaType: m.MediaType}
	err := c.index.Introduce(m.Digest, record, info.Digests(), m.link(repository))
	c.warn(err, "Failed to record a manifest", logrus.Fields{"repository": repository, "digest": m.Digest})
}

// Referrers returns the last stored list of what refers to a manifest of a repository.
func (c *Content) Referrers(repository string, d digest.Digest) (list []byte, ok bool) {
	defer c.volume.Read().Returned()
	return c.index.Referrers(repository, d)
}

// SetReferrers stores a list of what refers to a manifest of a repository, for as long as the manifest.
func (c *Content) SetReferrers(repository string, d digest.Digest, list []byte) {
	defer c.volume.Sync().Returned()
	err := c.index.SetReferrers(repository, d, list)
	c.warn(err, "Failed to record a list of referrers", logrus.Fields{"repository": repository, "digest": d})
}
