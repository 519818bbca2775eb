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

// Upload is content on its way into the store. It is in the directory of Distribution's uploads, so that Distribution
// can purge it if this server does not run again.
type Upload struct {
	store *Store
	dir   string
	file  File
	// closed means that the file is closed.
	closed bool
}

// NewUpload begins an upload to a repository.
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
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	return u, nil
}

// writeStartedAt writes the time for Distribution's purger. The file is not synced, since losing it does no harm.
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

// OpenReader opens the growing file for one reader. The file stays readable after Commit and Discard.
func (u *Upload) OpenReader() (*os.File, error) { return os.Open(u.path()) }

// Commit makes the upload the content of a digest. The caller has verified it and holds the digest's Lock.
func (u *Upload) Commit(d digest.Digest) error {
	defer u.Discard()
	if err := u.file.Sync(); err != nil {
		return fmt.Errorf("sync upload: %w", err)
	}
	if err := u.close(); err != nil {
		return fmt.Errorf("close upload: %w", err)
	}
	target := u.store.blobData(d)
	if err := u.store.withDirectory(target, func() error { return os.Rename(u.path(), target) }); err != nil {
		return fmt.Errorf("commit %s: %w", d, err)
	}
	return syncDirectory(filepath.Dir(target))
}

// Discard removes the upload unless it was committed. It can be called again.
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

// PutBlob stores small content. The caller has verified it and holds the digest's Lock.
func (s *Store) PutBlob(repository string, d digest.Digest, content []byte) error {
	u, err := s.NewUpload(repository)
	if err != nil {
		return err
	}
	if _, err := u.Write(content); err != nil {
		u.Discard()
		return fmt.Errorf("write %s: %w", d, err)
	}
	return u.Commit(d)
}

// RemoveOrphans removes the uploads that do not belong to this Store, and returns their number.
func (s *Store) RemoveOrphans() (removed int, err error) {
	err = s.WalkRepositories(func(repository string) error {
		uploads := s.path("repositories", repository, "_uploads")
		entries, err := os.ReadDir(uploads)
		if err != nil {
			return ignoreMissing(err)
		}
		for _, entry := range entries {
			dir := filepath.Join(uploads, entry.Name())
			if _, running := s.uploads.Load(dir); running {
				continue
			}
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("remove orphaned upload: %w", err)
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
