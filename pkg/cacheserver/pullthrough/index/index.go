// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package index stores what the store's files do not contain: when an object was last used, whether it has been
// verified, which manifest needs which content, which repository links it, and when a tag was last validated upstream.
//
// The files are authoritative, the index is metadata about them. Losing the index loses only that metadata: objects
// count as just used and as unverified, and the index is rebuilt from the files in the background. While the disk has
// no room for an index, nothing is known.
//
// The index is a bbolt database: one file, crash-safe, opened in constant time. Uses are collected in memory and
// written in batches, so a hit does not write. The use of a manifest is a use of everything that it needs, so no part
// of an image ever looks older than the image.
package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

var (
	bucketObjects   = []byte("objects")   // digest -> Record
	bucketChildren  = []byte("children")  // manifest, child -> empty
	bucketParents   = []byte("parents")   // child, manifest -> empty
	bucketLinks     = []byte("links")     // digest, kind, repository -> empty, or flags and a media type
	bucketTags      = []byte("tags")      // repository, tag -> validation
	bucketReferrers = []byte("referrers") // digest, repository -> list
	bucketMeta      = []byte("meta")

	keyComplete = []byte("complete")
)

const (
	// lockTimeout is how long to wait until another process closes the database.
	lockTimeout = 5 * time.Second
	// maxPending limits the number of uses that are collected before they are written.
	maxPending = 4096
	// maxNeeded limits the number of references that are followed from a used object. Images have hundreds, but
	// manifests are untrusted.
	maxNeeded = 1 << 16
)

// ErrLocked means that another process uses the same storage.
var ErrLocked = errors.New("the storage is in use by another process")

// Index is the index of one store.
type Index struct {
	path string
	now  func() time.Time

	// db is nil while the file cannot be opened.
	db atomic.Pointer[bolt.DB]
	// writing serializes writers in place of bbolt's own lock, which a panic on a damaged file can leave locked
	// forever.
	writing sync.Mutex
	opening sync.Mutex

	mu      sync.Mutex
	pending map[digest.Digest]time.Time

	total    atomic.Int64
	complete atomic.Bool
}

// Open opens the index in a file, or creates an empty one. It renames a file that is not an index. If the disk is full
// or broken, nothing is known until Reopen succeeds.
func Open(path string, now func() time.Time) (*Index, error) {
	x := &Index{path: path, now: now, pending: map[digest.Digest]time.Time{}}
	if err := x.Reopen(); errors.Is(err, ErrLocked) {
		return nil, err
	}
	return x, nil
}

// Reopen opens the file if the index is not Ready.
func (x *Index) Reopen() error {
	x.opening.Lock()
	defer x.opening.Unlock()
	if x.Ready() {
		return nil
	}
	return x.reopen()
}

func (x *Index) reopen() error {
	if err := os.MkdirAll(filepath.Dir(x.path), 0o750); err != nil {
		return fmt.Errorf("create directory of the index: %w", err)
	}
	db, err := open(x.path)
	if damaged(err) {
		if err := x.rename(); err != nil {
			return err
		}
		db, err = open(x.path)
	}
	if err != nil {
		return err
	}
	x.total.Store(0)
	x.complete.Store(takeComplete(db))
	x.db.Store(db)
	return nil
}

// takeComplete reports whether the file is marked as complete, and removes the mark: after a crash, files may differ
// from what the index knows of them.
func takeComplete(db *bolt.DB) (complete bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			complete = false // The damage is handled when the file is used.
		}
	}()
	_ = db.View(func(tx *bolt.Tx) error {
		complete = tx.Bucket(bucketMeta).Get(keyComplete) != nil
		return nil
	})
	if complete { // Otherwise, there is nothing to write. On a full disk, the mark stays.
		_ = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyComplete) })
	}
	return complete
}

// Ready reports whether the index is open. All other calls fail until it is.
func (x *Index) Ready() bool { return x.db.Load() != nil }

func (x *Index) rename() error {
	if err := os.Rename(x.path, x.path+".broken"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("rename damaged index: %w", err)
	}
	return nil
}

// damaged reports whether an error of open is about the content of the file. Errors of the operating system are not:
// the index on a full disk may be intact.
func damaged(err error) bool {
	var system syscall.Errno
	return err != nil && !errors.Is(err, ErrLocked) && !errors.As(err, &system)
}

func open(path string) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recovered(&err)
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if err := prepare(db); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("prepare index: %w", err)
	}
	return db, nil
}

// prepare checks a database that has just been opened, and creates missing buckets.
func prepare(db *bolt.DB) error {
	if err := checkLength(db); err != nil {
		return err
	}
	return createBuckets(db)
}

var errTruncated = errors.New("the index is truncated")

// checkLength returns an error for a file that is shorter than its header says. Its page numbers would point beyond the
// mapped memory.
func checkLength(db *bolt.DB) error {
	info, err := os.Stat(db.Path())
	if err != nil {
		return err
	}
	return db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return errTruncated
		}
		return nil
	})
}

// createBuckets writes only if a bucket is missing, so an existing index can be read while the disk is full.
func createBuckets(db *bolt.DB) error {
	buckets := [][]byte{bucketObjects, bucketChildren, bucketParents, bucketLinks, bucketTags, bucketReferrers, bucketMeta}
	complete := true
	err := db.View(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			complete = complete && tx.Bucket(name) != nil
		}
		return nil
	})
	if err != nil || complete {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close writes pending uses and closes the index.
func (x *Index) Close() error {
	if !x.Ready() {
		return nil
	}
	err := x.Flush()
	if x.Complete() {
		err = errors.Join(err, x.update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyComplete, []byte{1}) }))
	}
	if db := x.db.Load(); db != nil {
		err = errors.Join(err, db.Close())
	}
	return err
}

// Complete reports whether the index has been reconciled with everything in the store, and has been closed properly
// ever since.
func (x *Index) Complete() bool { return x.complete.Load() }

// Learn must be called before a walk of the whole store, and the returned function after it; that marks the index as
// complete, unless it was replaced by an empty one in between.
func (x *Index) Learn() (complete func()) {
	before := x.db.Load()
	return func() {
		x.opening.Lock()
		defer x.opening.Unlock()
		if before != nil && x.db.Load() == before {
			x.complete.Store(true)
		}
	}
}

// Total returns the size of all known objects, in bytes. It is valid after Measure.
func (x *Index) Total() int64 { return x.total.Load() }

// Measure computes the size of all known objects for Total.
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

// release frees the memory of the mapped pages; they stay in the page cache. Otherwise, the process would grow by the
// size of the whole index after a walk.
func (x *Index) release() {
	_ = x.view(func(tx *bolt.Tx) error { // The mapping cannot change during a transaction.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED)
		return nil
	})
}

var (
	errDamaged  = errors.New("the index is damaged")
	errNotReady = errors.New("the index is not open yet")
)

func (x *Index) view(do func(tx *bolt.Tx) error) error {
	return x.guarded(func(db *bolt.DB) error { return db.View(do) })
}

func (x *Index) update(do func(tx *bolt.Tx) error) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	return x.guarded(func(db *bolt.DB) error { return db.Update(do) })
}

// guarded converts a panic to an error and replaces the damaged index with an empty one: bbolt and the memory map panic
// on a damaged file.
func (x *Index) guarded(do func(*bolt.DB) error) (err error) {
	db := x.db.Load()
	if db == nil {
		return errNotReady
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil {
			err = errors.Join(fmt.Errorf("%w: %v", errDamaged, reason), x.replace(db))
		}
	}()
	return do(db)
}

// replace opens an empty index in place of a damaged one, which stays open: Close could wait for locks that it holds.
func (x *Index) replace(broken *bolt.DB) error {
	x.opening.Lock()
	defer x.opening.Unlock()
	if !x.db.CompareAndSwap(broken, nil) {
		return nil
	}
	if err := x.rename(); err != nil {
		return err
	}
	return x.reopen()
}

func recovered(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("%w: %v", errDamaged, reason)
	}
}
