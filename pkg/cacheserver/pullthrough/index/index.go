// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package index remembers what the store's files do not tell: when an object was last used, that it has been verified,
// which manifest needs which content, which repository links it, and when a tag was last validated upstream.
//
// The files are the truth, the index is knowledge about them. A missing or broken index costs nothing but that
// knowledge: objects count as just used and as unverified, and the index is rebuilt from the files in the background.
//
// It is a bbolt database: one file, crash-safe, opened in constant time. Uses are collected in memory and written in
// batches, so that a hit writes nothing. The use of a manifest is a use of all that it needs, so that nothing which an
// image needs ever looks older than the image.
package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

var (
	bucketObjects  = []byte("objects")  // digest -> Record
	bucketChildren = []byte("children") // manifest, child -> nothing
	bucketParents  = []byte("parents")  // child, manifest -> nothing
	bucketLinks    = []byte("links")    // digest, kind, repository -> nothing
	bucketTags     = []byte("tags")     // repository, tag -> validation
	bucketMeta     = []byte("meta")

	keyComplete = []byte("complete")
)

const (
	// lockTimeout is how long to wait for another process to let go of the database.
	lockTimeout = 5 * time.Second
	// batchDelay is how long a write waits for others to share its sync with.
	batchDelay = 2 * time.Millisecond
	// maxPending is how many uses are collected at most before they are written.
	maxPending = 4096
	// maxDepth bounds how deep indexes may nest: index, manifest, content, and one to spare.
	maxDepth = 4
)

// ErrLocked says that another process uses the same storage.
var ErrLocked = errors.New("the storage is in use by another process")

// Index is open until Close.
type Index struct {
	path string
	now  func() time.Time
	db   *bolt.DB

	mu      sync.Mutex
	pending map[digest.Digest]time.Time

	total atomic.Int64
}

// Open opens the index in a file, or begins an empty one there. A file that is no index is put aside.
func Open(path string, now func() time.Time) (*Index, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fmt.Errorf("creating the directory of the index: %w", err)
	}
	db, err := open(path)
	if err != nil && !errors.Is(err, ErrLocked) {
		if aside := os.Rename(path, path+".broken"); aside != nil {
			return nil, errors.Join(err, aside)
		}
		db, err = open(path)
	}
	if err != nil {
		return nil, err
	}
	return &Index{path: path, now: now, db: db, pending: map[digest.Digest]time.Time{}}, nil
}

func open(path string) (db *bolt.DB, err error) {
	defer recovered(&err)
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolt.ErrTimeout) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("opening the index: %w", err)
	}
	db.MaxBatchDelay = batchDelay
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketObjects, bucketChildren, bucketParents, bucketLinks, bucketTags, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("preparing the index: %w", err)
	}
	return db, nil
}

// Close writes what is pending and closes the index.
func (x *Index) Close() error {
	return errors.Join(x.Flush(), x.db.Close())
}

// Complete reports whether the index has once seen everything that was in the store.
func (x *Index) Complete() bool {
	complete := false
	_ = x.view(func(tx *bolt.Tx) error {
		complete = tx.Bucket(bucketMeta).Get(keyComplete) != nil
		return nil
	})
	return complete
}

// SetComplete notes that the index has seen everything that is in the store.
func (x *Index) SetComplete() error {
	return x.update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyComplete, []byte{1})
	})
}

// Total is the size of all known objects, in bytes, once Measure has run.
func (x *Index) Total() int64 { return x.total.Load() }

// Measure sums up the sizes of all known objects, for Total.
func (x *Index) Measure() error {
	before := x.total.Load()
	var sum int64
	err := x.Each(func(_ digest.Digest, r Record) error {
		sum += r.Size
		return nil
	})
	if err == nil {
		x.total.Add(sum - before)
	}
	return err
}

func (x *Index) view(do func(tx *bolt.Tx) error) (err error) {
	defer x.setAside(&err)
	return x.db.View(do)
}

func (x *Index) update(do func(tx *bolt.Tx) error) (err error) {
	defer x.setAside(&err)
	return x.db.Update(do)
}

// batch is update for callers that do not mind sharing a transaction, and its sync, with others.
func (x *Index) batch(do func(tx *bolt.Tx) error) (err error) {
	defer x.setAside(&err)
	return x.db.Batch(do)
}

// setAside turns a panic, which is how bbolt meets a damaged file, into an error, and makes the next start begin anew.
func (x *Index) setAside(err *error) {
	if reason := recover(); reason != nil {
		_ = os.Rename(x.path, x.path+".broken")
		*err = fmt.Errorf("index is damaged: %v", reason)
	}
}

func recovered(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("index is damaged: %v", reason)
	}
}
