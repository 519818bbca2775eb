// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package store reads and writes Distribution's file system layout, version 2, below a root directory.
//
// The layout is a contract: a stock registry can serve the files of this package, and vice versa. The package accesses
// the directory directly instead of through Distribution's storage driver, because readers follow a blob while it
// grows, which needs a real file with several descriptors, and because the kernel sends a hit from the file to the
// socket.
//
//	<root>/docker/registry/v2/blobs/<algorithm>/<first two>/<hex>/data
//	<root>/docker/registry/v2/repositories/<name>/_layers/<algorithm>/<hex>/link
//	<root>/docker/registry/v2/repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
//	<root>/docker/registry/v2/repositories/<name>/_manifests/tags/<tag>/{current,index/<algorithm>/<hex>}/link
//	<root>/docker/registry/v2/repositories/<name>/_uploads/<id>/{data,startedat}
//
// A file appears under its final name complete and synced, or not at all. Links are written before content: a crash can
// leave a dangling link, which counts as a miss, but no unreferenced content.
package store

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// ErrNotFound means that the store does not have the object or tag.
var ErrNotFound = errors.New("not in the store")

// ErrMismatch means that content differs from what its digest promises.
var ErrMismatch = errors.New("the content does not match its digest")

const (
	layoutRoot = "docker/registry/v2"
	dirMode    = 0o777 // As in Distribution; the umask applies.
	fileMode   = 0o666
	lockCount  = 64
)

var lockSeed = maphash.MakeSeed()

// Store is one directory in Distribution's layout. Several Stores must not share a root.
type Store struct {
	root string
	disk Disk
	// contents serialize commits and removals of the same digest, tags moves and removals of the same tag. A holder of
	// a lock of contents may acquire one of tags, but not vice versa.
	contents, tags Locks
	// tree protects a new directory from being pruned before its first file is created.
	tree sync.RWMutex
	// uploads has the directories of running uploads as keys.
	uploads sync.Map
}

// Disk is an interface to the operating system. Tests implement it to simulate a full or broken disk.
type Disk interface {
	// Create opens a new file for writing.
	Create(path string) (File, error)
	// Space returns the space of the volume that contains path.
	Space(path string) (Space, error)
}

// File is a file being written.
type File interface {
	io.Writer
	Sync() error
	Close() error
}

// Space describes a volume, in bytes.
type Space struct {
	Total uint64
	// Free is available to unprivileged processes.
	Free uint64
}

// Open returns the store below root, which is created if it is missing. A nil disk selects the machine's.
func Open(root string, disk Disk) (*Store, error) {
	if disk == nil {
		disk = machine{}
	}
	if err := os.MkdirAll(root, dirMode); err != nil {
		return nil, fmt.Errorf("create storage directory: %w", err)
	}
	return &Store{root: root, disk: disk}, nil
}

// Root returns the root directory of the store.
func (s *Store) Root() string { return s.root }

// Space returns the space of the store's volume.
func (s *Store) Space() (Space, error) { return s.disk.Space(s.root) }

// Lock serializes commits and removals of the content of a digest.
func (s *Store) Lock(d digest.Digest) (unlock func()) {
	return s.contents.Lock(d.Encoded())
}

// Locks is a striped mutex.
type Locks [lockCount]sync.Mutex

// Lock locks a key. Keys can share a lock.
func (l *Locks) Lock(key string) (unlock func()) {
	lock := &l[maphash.String(lockSeed, key)%lockCount]
	lock.Lock()
	return lock.Unlock
}

// OpenBlob opens the content of a digest. It verifies neither content nor size.
func (s *Store) OpenBlob(d digest.Digest) (*os.File, fs.FileInfo, error) {
	file, err := os.Open(s.blobData(d))
	if err != nil {
		return nil, nil, notFound(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("content of %s is not a regular file", d)
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// StatBlob returns the file information of the content of a digest.
func (s *Store) StatBlob(d digest.Digest) (fs.FileInfo, error) {
	info, err := os.Stat(s.blobData(d))
	return info, notFound(err)
}

// ReadBlob reads content of at most limit bytes, without verifying it.
func (s *Store) ReadBlob(d digest.Digest, limit int64) ([]byte, error) {
	file, info, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info.Size() > limit {
		return nil, fmt.Errorf("content of %s has %d bytes, more than %d", d, info.Size(), limit)
	}
	content := make([]byte, info.Size())
	if _, err := io.ReadFull(file, content); err != nil {
		return nil, fmt.Errorf("read content of %s: %w", d, err)
	}
	return content, nil
}

// RemoveBlob removes the content of a digest. The caller holds its Lock.
func (s *Store) RemoveBlob(d digest.Digest) error {
	dir := filepath.Dir(s.blobData(d))
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove content of %s: %w", d, err)
	}
	return nil
}

func (s *Store) path(elements ...string) string {
	return filepath.Join(append([]string{s.root, layoutRoot}, elements...)...)
}

func (s *Store) blobData(d digest.Digest) string {
	encoded := d.Encoded()
	return s.path("blobs", d.Algorithm().String(), encoded[:2], encoded, "data")
}

// writeFile writes a file atomically.
func (s *Store) writeFile(path string, content []byte) error {
	temporary := path + "." + uuid.NewString() + ".tmp"
	var file File
	err := s.withDirectory(path, func() (err error) {
		file, err = s.disk.Create(temporary)
		return err
	})
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = s.withDirectory(path, func() error { return os.Rename(temporary, path) })
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// withDirectory runs do. If the directory of path is missing, it creates the directory and runs do again. It prevents
// pruning until it returns.
func (s *Store) withDirectory(path string, do func() error) error {
	s.tree.RLock()
	defer s.tree.RUnlock()
	err := do()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	return do()
}

// prune removes empty parents of path below the directory stop.
func (s *Store) prune(path, stop string) {
	s.tree.Lock()
	defer s.tree.Unlock()
	for dir := filepath.Dir(path); dir != stop && strings.HasPrefix(dir, stop+string(filepath.Separator)); dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			return
		}
	}
}

func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return ErrNotFound
	}
	return err
}

func syncDirectory(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}

// IsFull reports whether an error means that the volume or the quota has no space left.
func IsFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// machine implements Disk with the operating system.
type machine struct{}

func (machine) Create(path string) (File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
}

func (machine) Space(path string) (Space, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return Space{}, fmt.Errorf("get space of the volume: %w", err)
	}
	block := uint64(stat.Bsize)
	return Space{Total: stat.Blocks * block, Free: stat.Bavail * block}, nil
}

// Identity identifies the state of a file by its inode number and the time of the last change of its content or
// attributes, which programs cannot set.
func Identity(info fs.FileInfo) (inode uint64, changed int64) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino, stat.Ctim.Nano()
	}
	return 0, info.ModTime().UnixNano()
}
