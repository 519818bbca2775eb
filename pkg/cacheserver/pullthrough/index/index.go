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
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	bucketObjects   = []byte("objects")   // digest -> Record
	bucketChildren  = []byte("children")  // manifest, child -> nothing
	bucketParents   = []byte("parents")   // child, manifest -> nothing
	bucketLinks     = []byte("links")     // digest, kind, repository -> nothing
	bucketTags      = []byte("tags")      // repository, tag -> validation
	bucketReferrers = []byte("referrers") // digest, repository -> list
	bucketMeta      = []byte("meta")

	keyComplete = []byte("complete")
)

const (
	// lockTimeout is how long to wait for another process to let go of the database.
	lockTimeout = 5 * time.Second
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

	// db is nil when the file is damaged and cannot be replaced.
	db atomic.Pointer[bolt.DB]
	// writing is held instead of bbolt's own lock for writers, which a damaged file may leave locked for ever.
	writing   sync.Mutex
	replacing sync.Mutex

	mu      sync.Mutex
	pending map[digest.Digest]time.Time

	total atomic.Int64
}

// Open opens the index in a file, or begins an empty one there. A file that is no index is put aside.
func Open(path string, now func() time.Time) (*Index, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
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
	x := &Index{path: path, now: now, pending: map[digest.Digest]time.Time{}}
	x.db.Store(db)
	return x, nil
}

func open(path string) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recovered(&err)
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("opening the index: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketObjects, bucketChildren, bucketParents, bucketLinks, bucketTags, bucketReferrers, bucketMeta} {
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
	err := x.Flush()
	if db := x.db.Load(); db != nil {
		err = errors.Join(err, db.Close())
	}
	return err
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

var errDamaged = errors.New("the index is damaged")

func (x *Index) view(do func(tx *bolt.Tx) error) error {
	return x.guarded(func(db *bolt.DB) error { return db.View(do) })
}

func (x *Index) update(do func(tx *bolt.Tx) error) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	return x.guarded(func(db *bolt.DB) error { return db.Update(do) })
}

// guarded turns a panic, which is how bbolt and the memory map meet a damaged file, into an error, and puts an empty
// index in the place of the damaged one.
func (x *Index) guarded(do func(*bolt.DB) error) (err error) {
	db := x.db.Load()
	if db == nil {
		return errDamaged
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil {
			err = errors.Join(fmt.Errorf("%w: %v", errDamaged, reason), x.replace(db))
		}
	}()
	return do(db)
}

// replace begins anew. The damaged database stays open, since it may hold locks that its Close would wait for.
func (x *Index) replace(damaged *bolt.DB) error {
	x.replacing.Lock()
	defer x.replacing.Unlock()
	if x.db.Load() != damaged {
		return nil
	}
	x.db.Store(nil)
	if err := os.Rename(x.path, x.path+".broken"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := open(x.path)
	if err == nil {
		x.db.Store(db)
		x.total.Store(0)
	}
	return err
}

func recovered(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("%w: %v", errDamaged, reason)
	}
}
