// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"errors"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// UnknownSize is the size of content whose end is not known yet.
const UnknownSize = -1

// Upload is a blob that is being stored, in space that is reserved for it.
type Upload struct {
	content    *Content
	repository string
	digest     digest.Digest
	size       int64
	written    int64
	unlinked   bool
	upload     *store.Upload
	room       *retention.Reservation
}

// NewUpload begins to store a blob of the given size, or UnknownSize, for a repository. If there is no room for it even
// after eviction, IsFull reports true for the error.
func (c *Content) NewUpload(repository string, d digest.Digest, size int64) (*Upload, error) {
	room, err := c.keeper.Reserve(size)
	if err != nil {
		return nil, err
	}
	creating := c.volume.Write()
	upload, err := c.store.NewUpload(repository)
	creating.Returned()
	if err != nil {
		room.Release()
		return nil, err
	}
	return &Upload{content: c, repository: repository, digest: d, size: size, upload: upload, room: room}, nil
}

// KeepUnlinked keeps the blob from becoming part of its repository.
func (u *Upload) KeepUnlinked() { u.unlinked = true }

// OpenReader opens the file, which keeps growing. It stays readable after Commit and Discard.
func (u *Upload) OpenReader() (*os.File, error) {
	defer u.content.volume.Read().Returned()
	file, err := u.upload.OpenReader()
	if errors.Is(err, os.ErrNotExist) { // It may have been committed since.
		file, _, err = u.content.store.OpenBlob(u.digest)
	}
	return file, err
}

// Write appends to the upload, as far as there is room.
func (u *Upload) Write(p []byte) (int, error) {
	n, err := u.write(p)
	if err == nil || !store.IsFull(err) || u.size == UnknownSize {
		return n, err
	}
	// Others took the space that was reserved.
	u.room.Release()
	if u.room, err = u.content.keeper.Reserve(u.size - u.written); err != nil {
		return n, err
	}
	more, err := u.write(p[n:])
	return n + more, err
}

func (u *Upload) write(p []byte) (int, error) {
	if u.size == UnknownSize && u.room.Left() < int64(len(p)) {
		// The size is unknown, so reserve more space before each write that needs it.
		u.room.Release()
		var err error
		if u.room, err = u.content.keeper.Reserve(UnknownSize); err != nil {
			return 0, err
		}
	}
	writing := u.content.volume.Write()
	n, err := u.upload.Write(p)
	writing.Returned()
	u.room.Wrote(int64(n))
	u.written += int64(n)
	return n, err
}

// Commit stores the upload, which matches the digest, as a blob, and links it to its repository unless it is kept
// unlinked.
func (u *Upload) Commit() error {
	defer u.content.store.Lock(u.digest)()
	defer u.content.volume.Long().Returned()
	record := index.Record{Size: u.written}
	var err error
	if u.unlinked {
		err = u.content.index.Put(u.digest, record)
	} else {
		err = u.content.index.Introduce(u.digest, record, nil, index.Link{Kind: index.Layer, Repository: u.repository})
	}
	u.content.warn(err, "Failed to record a blob", logrus.Fields{"digest": u.digest})
	if !u.unlinked {
		if err := u.content.store.LinkLayer(u.repository, u.digest); err != nil {
			return err
		}
	}
	if err := u.upload.Commit(u.digest); err != nil {
		return err
	}
	info, err := u.content.store.StatBlob(u.digest)
	if err == nil {
		err = u.content.keeper.MarkVerified(u.digest, info)
	}
	u.content.warn(err, "Failed to record a verification", logrus.Fields{"digest": u.digest})
	return nil
}

// Discard drops the upload if it was not committed. Readers keep what they have opened.
func (u *Upload) Discard() {
	defer u.content.volume.Long().Returned()
	u.upload.Discard()
	u.room.Release()
}

// Release gives back the space that is reserved for what is still to be written.
func (u *Upload) Release() { u.room.Release() }
