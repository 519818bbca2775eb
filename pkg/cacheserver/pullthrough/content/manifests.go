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
}

// HasManifest reports whether a repository links a manifest. Being listed in an index of the repository is not enough:
// only a manifest that was served from the repository is linked.
func (c *Content) HasManifest(repository string, d digest.Digest) bool {
	return c.store.HasManifest(repository, d)
}

// Manifest reads a manifest of a repository and verifies it. Content that does not match is dropped.
func (c *Content) Manifest(repository string, d digest.Digest) (Manifest, error) {
	content, err := c.store.ReadBlob(d, manifest.MaxBytes)
	if err != nil {
		return Manifest{}, err
	}
	if d.Algorithm().FromBytes(content) != d {
		return Manifest{}, errors.Join(store.ErrMismatch, c.keeper.DropCorrupt(d, store.ErrMismatch))
	}
	link := c.index.Manifest(repository, d)
	m := Manifest{Digest: d, MediaType: link.MediaType, Content: content, Proof: link.Proof}
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
	link := index.Link{Kind: index.Manifest, Repository: repository, MediaType: m.MediaType, Proof: m.Proof}
	err := c.index.Introduce(m.Digest, record, info.Digests(), link)
	c.warn(err, "Failed to record a manifest", logrus.Fields{"repository": repository, "digest": m.Digest})
}

// Referrers returns the last stored list of what refers to a manifest of a repository.
func (c *Content) Referrers(repository string, d digest.Digest) (list []byte, ok bool) {
	return c.index.Referrers(repository, d)
}

// SetReferrers stores a list of what refers to a manifest of a repository, for as long as the manifest.
func (c *Content) SetReferrers(repository string, d digest.Digest, list []byte) {
	err := c.index.SetReferrers(repository, d, list)
	c.warn(err, "Failed to record a list of referrers", logrus.Fields{"repository": repository, "digest": d})
}
