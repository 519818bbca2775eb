// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// maxLink limits how much of a link file is read. It fits a digest of the longest algorithm.
const maxLink = 256

// HasLayer reports whether a repository links a blob. The blob itself may be missing.
func (s *Store) HasLayer(repository string, d digest.Digest) bool {
	_, err := os.Stat(s.layerLink(repository, d))
	return err == nil
}

// LinkLayer adds a blob to a repository.
func (s *Store) LinkLayer(repository string, d digest.Digest) error {
	return s.link(s.layerLink(repository, d), d)
}

// UnlinkLayer removes a blob from a repository.
func (s *Store) UnlinkLayer(repository string, d digest.Digest) error {
	return s.unlink(filepath.Dir(s.layerLink(repository, d)))
}

// HasManifest reports whether a repository links a manifest. The manifest itself may be missing.
func (s *Store) HasManifest(repository string, d digest.Digest) bool {
	_, err := os.Stat(s.manifestLink(repository, d))
	return err == nil
}

// LinkManifest adds a manifest to a repository.
func (s *Store) LinkManifest(repository string, d digest.Digest) error {
	return s.link(s.manifestLink(repository, d), d)
}

// UnlinkManifest removes a manifest and the tags that lead to it from a repository. It returns the tags.
func (s *Store) UnlinkManifest(repository string, d digest.Digest) (tags []string, err error) {
	dir := s.path("repositories", repository, "_manifests", "tags")
	err = eachDirectory(dir, func(tag string) error {
		defer s.lockTag(repository, tag)()
		if current, err := s.Tag(repository, tag); err == nil && current == d {
			tags = append(tags, tag)
			return s.unlink(filepath.Join(dir, tag))
		}
		return s.unlink(filepath.Dir(s.tagIndexLink(repository, tag, d)))
	})
	if err != nil {
		return tags, fmt.Errorf("remove tags of %s in %s: %w", d, repository, err)
	}
	return tags, s.unlink(filepath.Dir(s.manifestLink(repository, d)))
}

// RemoveDeadTags removes the tags of a repository that do not lead to a manifest, and returns them.
func (s *Store) RemoveDeadTags(repository string) (tags []string, err error) {
	dir := s.path("repositories", repository, "_manifests", "tags")
	err = eachDirectory(dir, func(tag string) error {
		defer s.lockTag(repository, tag)()
		d, err := s.Tag(repository, tag)
		if err == nil && s.HasManifest(repository, d) || err != nil && !errors.Is(err, ErrNotFound) {
			return nil
		}
		tags = append(tags, tag)
		return s.unlink(filepath.Join(dir, tag))
	})
	if err != nil {
		return tags, fmt.Errorf("remove dead tags of %s: %w", repository, err)
	}
	return tags, nil
}

// Tag returns the manifest that a tag leads to.
func (s *Store) Tag(repository, tag string) (digest.Digest, error) {
	file, err := os.Open(s.tagLink(repository, tag))
	if err != nil {
		return "", notFound(err)
	}
	defer file.Close()
	var buffer [maxLink]byte
	n, err := io.ReadFull(file, buffer[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read tag %s of %s: %w", tag, repository, err)
	}
	d, err := digest.Parse(string(buffer[:n]))
	if err != nil {
		// A link that was damaged by a crash or a bad disk counts as a missing tag, which is resolved again.
		return "", ErrNotFound
	}
	return d, nil
}

// SetTag points a tag to a manifest.
func (s *Store) SetTag(repository, tag string, d digest.Digest) error {
	if current, err := s.Tag(repository, tag); err == nil && current == d {
		return nil
	}
	defer s.lockTag(repository, tag)()
	if err := s.link(s.tagIndexLink(repository, tag, d), d); err != nil {
		return err
	}
	return s.link(s.tagLink(repository, tag), d)
}

func (s *Store) lockTag(repository, tag string) (unlock func()) {
	return s.tags.Lock(repository + ":" + tag)
}

func (s *Store) link(path string, d digest.Digest) error {
	if err := s.writeFile(path, []byte(d)); err != nil {
		return fmt.Errorf("link %s: %w", d, err)
	}
	return nil
}

// unlink removes the directory of a link, and parent directories that are empty then.
func (s *Store) unlink(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove link: %w", err)
	}
	s.prune(dir, s.path("repositories"))
	return nil
}

func (s *Store) layerLink(repository string, d digest.Digest) string {
	return s.path("repositories", repository, "_layers", d.Algorithm().String(), d.Encoded(), "link")
}

func (s *Store) manifestLink(repository string, d digest.Digest) string {
	return s.path("repositories", repository, "_manifests", "revisions", d.Algorithm().String(), d.Encoded(), "link")
}

func (s *Store) tagLink(repository, tag string) string {
	return s.path("repositories", repository, "_manifests", "tags", tag, "current", "link")
}

func (s *Store) tagIndexLink(repository, tag string, d digest.Digest) string {
	return s.path("repositories", repository, "_manifests", "tags", tag, "index", d.Algorithm().String(), d.Encoded(), "link")
}
