// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// batch is the number of directory entries that are read at a time, which limits the memory of a walk.
const batch = 256

// WalkBlobs calls visit for each blob and manifest in the store, in no particular order.
func (s *Store) WalkBlobs(visit func(d digest.Digest, info fs.FileInfo) error) error {
	return eachDirectory(s.path("blobs"), func(algorithm string) error {
		return eachDirectory(s.path("blobs", algorithm), func(shard string) error {
			return eachDirectory(s.path("blobs", algorithm, shard), func(encoded string) error {
				d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
				if d.Validate() != nil || !strings.HasPrefix(encoded, shard) {
					return nil
				}
				info, err := s.StatBlob(d)
				if err != nil {
					return nil //nolint:nilerr // Removed since the directory was read, or never complete.
				}
				return visit(d, info)
			})
		})
	})
}

// WalkRepositories calls visit with the name of each repository.
func (s *Store) WalkRepositories(visit func(repository string) error) error {
	return s.walkRepositories("", visit)
}

func (s *Store) walkRepositories(parent string, visit func(repository string) error) error {
	isRepository := false
	err := eachDirectory(s.path("repositories", parent), func(name string) error {
		if strings.HasPrefix(name, "_") {
			isRepository = true
			return nil
		}
		return s.walkRepositories(filepath.Join(parent, name), visit)
	})
	if err != nil || !isRepository || parent == "" {
		return err
	}
	return visit(filepath.ToSlash(parent))
}

// WalkLayers calls visit for each blob that a repository links.
func (s *Store) WalkLayers(repository string, visit func(d digest.Digest) error) error {
	return walkLinks(s.path("repositories", repository, "_layers"), visit)
}

// WalkManifests calls visit for each manifest that a repository links.
func (s *Store) WalkManifests(repository string, visit func(d digest.Digest) error) error {
	return walkLinks(s.path("repositories", repository, "_manifests", "revisions"), visit)
}

func walkLinks(dir string, visit func(d digest.Digest) error) error {
	return eachDirectory(dir, func(algorithm string) error {
		return eachDirectory(filepath.Join(dir, algorithm), func(encoded string) error {
			d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
			if d.Validate() != nil {
				return nil
			}
			return visit(d)
		})
	})
}

// eachDirectory visits the subdirectories of dir, which may be missing.
func eachDirectory(dir string, visit func(name string) error) error {
	file, err := os.Open(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	defer file.Close()
	for {
		entries, err := file.ReadDir(batch)
		for _, entry := range entries {
			if !entry.IsDir() {
				continue
			}
			if err := visit(entry.Name()); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
