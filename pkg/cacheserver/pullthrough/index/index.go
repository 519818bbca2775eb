// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package index remembers what the store's files do not tell: when an object was last used, that it has been verified,
// which manifest needs which content, which repository links it, and when a tag was last validated upstream.
//
// The files are the truth, the index is knowledge about them. A missing or broken index costs nothing but that
// knowledge: objects count as just used and as unverified, and the index is rebuilt from the files in the background.
// As long as the disk takes no index, nothing is known.
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
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

var (
	bucketObjects   = []byte("objects")   // digest -> Record
	bucketChildren  = []byte("children")  // manifest, child -> nothing
	bucketParents   = []byte("parents")   // child, manifest -> nothing
	bucketLinks     = []byte("links")     // digest, kind, repository -> nothing, or flags and a media type
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
	// maxNeeded is how many references are followed from an object in use. Images have hundreds; but what an image needs
	// is what a stranger says.
	maxNeeded = 1 << 16
)

// ErrLocked says that another process uses the same storage.
var ErrLocked = errors.New("the storage is in use by another process")

// Index is open until Close.
type Index struct {
	path string
	now  func() time.Time

	// db is nil while the file cannot be opened.
	db atomic.Pointer[bolt.DB]
	// writing is held instead of bbolt's own lock for writers, which a damaged file may leave locked for ever.
	writing sync.Mutex
	opening sync.Mutex

	mu      sync.Mutex
	pending map[digest.Digest]time.Time

	total    atomic.Int64
	complete atomic.Bool
}

// Open opens the index in a file, or begins an empty one there. A file that is no index is put aside. Should the disk be
// full or broken, nothing is known until Reopen succeeds.
func Open(path string, now func() time.Time) (*Index, error) {
	x := &Index{path: path, now: now, pending: map[digest.Digest]time.Time{}}
	if err := x.Reopen(); errors.Is(err, ErrLocked) {
		return nil, err
	}
	return x, nil
}

// Reopen opens the file of an index that is not Ready.
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
		return fmt.Errorf("creating the directory of the index: %w", err)
	}
	db, err := open(x.path)
	if spoiled(err) {
		if err := x.putAside(); err != nil {
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

// takeComplete reports whether the file says that it is complete, and has it say so no longer: a crash may leave files
// behind that the index knows as others.
func takeComplete(db *bolt.DB) (complete bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			complete = false // The damage shows when the file is used.
		}
	}()
	_ = db.View(func(tx *bolt.Tx) error {
		complete = tx.Bucket(bucketMeta).Get(keyComplete) != nil
		return nil
	})
	if complete { // Else there is nothing to write. On a full disk it goes on saying so.
		_ = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyComplete) })
	}
	return complete
}

// Ready reports whether the index is open. Until it is, all calls fail.
func (x *Index) Ready() bool { return x.db.Load() != nil }

func (x *Index) putAside() error {
	if err := os.Rename(x.path, x.path+".broken"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("putting the index aside: %w", err)
	}
	return nil
}

// spoiled reports whether an error of open is about what is in the file. One of the operating system says nothing about
// that: the index on a disk that is full may be a good one.
func spoiled(err error) bool {
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
		return nil, fmt.Errorf("opening the index: %w", err)
	}
	if err := prepare(db); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("preparing the index: %w", err)
	}
	return db, nil
}

// prepare makes an index of a database that has just been opened.
func prepare(db *bolt.DB) error {
	if err := checkLength(db); err != nil {
		return err
	}
	return createBuckets(db)
}

var errTruncated = errors.New("the index is cut short")

// checkLength refuses a file that is shorter than it says. The map of its pages would lead beyond what is mapped.
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

// createBuckets writes only where one is missing: an index that is there can be read when the disk is full.
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

// Close writes what is pending and closes the index.
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

// Complete reports whether the index has seen everything that was in the store, and has been closed whenever it was open
// since.
func (x *Index) Complete() bool { return x.complete.Load() }

// Learn is called before looking at everything that is in the store, and its result after that. If the index was begun
// anew meanwhile, it has not seen what was found before.
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

// release gives the memory back that the pages of the file take which were looked at; they stay in the page cache. After
// work on the whole index the process would else be larger by all of it.
func (x *Index) release() {
	_ = x.view(func(tx *bolt.Tx) error { // Nobody maps the file anew meanwhile.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED)
		return nil
	})
}

var (
	errDamaged  = errors.New("the index is damaged")
	errNotReady = errors.New("the index could not be opened yet")
)

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

// replace begins anew. The damaged database stays open, since it may hold locks that its Close would wait for.
func (x *Index) replace(damaged *bolt.DB) error {
	x.opening.Lock()
	defer x.opening.Unlock()
	if !x.db.CompareAndSwap(damaged, nil) {
		return nil
	}
	if err := x.putAside(); err != nil {
		return err
	}
	return x.reopen()
}

func recovered(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("%w: %v", errDamaged, reason)
	}
}
