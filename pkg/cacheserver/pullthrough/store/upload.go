// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
)

// Upload is content on its way into the store. It lies where Distribution puts uploads, so that Distribution's own
// purger finds it, too, should this server never come back.
type Upload struct {
	store *Store
	dir   string
	file  File
	// closed is set when the file no longer takes bytes.
	closed bool
}

// NewUpload begins an upload in the area of a repository.
func (s *Store) NewUpload(repository string) (*Upload, error) {
	u := &Upload{store: s, dir: s.path("repositories", repository, "_uploads", uuid.NewString())}
	s.uploads.Store(u.dir, nil)
	err := s.withDirectory(u.path(), func() (err error) {
		u.file, err = s.disk.Create(u.path())
		return err
	})
	if err == nil {
		err = s.writeStartedAt(u.dir)
	}
	if err != nil {
		u.Discard()
		return nil, fmt.Errorf("beginning an upload: %w", err)
	}
	return u, nil
}

// writeStartedAt tells Distribution's purger the age of an upload. Whether that survives a crash does not matter.
func (s *Store) writeStartedAt(dir string) error {
	file, err := s.disk.Create(filepath.Join(dir, "startedat"))
	if err != nil {
		return err
	}
	_, err = file.Write([]byte(time.Now().UTC().Format(time.RFC3339)))
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}

// Write appends to the upload.
func (u *Upload) Write(p []byte) (int, error) { return u.file.Write(p) }

// OpenReader opens the growing file for a reader of its own. What has been opened stays readable after Commit and
// after Discard.
func (u *Upload) OpenReader() (*os.File, error) { return os.Open(u.path()) }

// Commit makes the upload the content of a digest. The caller has verified it and holds the digest's Lock.
func (u *Upload) Commit(d digest.Digest) error {
	defer u.Discard()
	if err := u.file.Sync(); err != nil {
		return fmt.Errorf("syncing an upload: %w", err)
	}
	if err := u.close(); err != nil {
		return fmt.Errorf("closing an upload: %w", err)
	}
	target := u.store.blobData(d)
	if err := u.store.withDirectory(target, func() error { return os.Rename(u.path(), target) }); err != nil {
		return fmt.Errorf("committing %s: %w", d, err)
	}
	return syncDirectory(filepath.Dir(target))
}

// Discard drops the upload, if it was not committed, and gives its space back. Calling it again does no harm.
func (u *Upload) Discard() {
	_ = u.close()
	_ = os.RemoveAll(u.dir)
	u.store.uploads.Delete(u.dir)
	u.store.prune(u.dir, u.store.path("repositories"))
}

func (u *Upload) close() error {
	if u.closed || u.file == nil {
		return nil
	}
	u.closed = true
	return u.file.Close()
}

func (u *Upload) path() string { return filepath.Join(u.dir, "data") }

// PutBlob stores small content by way of an upload. The caller has verified it and holds the digest's Lock.
func (s *Store) PutBlob(repository string, d digest.Digest, content []byte) error {
	u, err := s.NewUpload(repository)
	if err != nil {
		return err
	}
	if _, err := u.Write(content); err != nil {
		u.Discard()
		return fmt.Errorf("writing %s: %w", d, err)
	}
	return u.Commit(d)
}

// RemoveOrphans removes the uploads that nobody in this process goes on with, and returns how many those were.
func (s *Store) RemoveOrphans() (removed int, err error) {
	err = s.WalkRepositories(func(repository string) error {
		uploads := s.path("repositories", repository, "_uploads")
		entries, err := os.ReadDir(uploads)
		if err != nil {
			return ignoreMissing(err)
		}
		for _, entry := range entries {
			dir := filepath.Join(uploads, entry.Name())
			if _, going := s.uploads.Load(dir); going {
				continue
			}
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("removing an orphaned upload: %w", err)
			}
			s.prune(dir, s.path("repositories"))
			removed++
		}
		return nil
	})
	return removed, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
