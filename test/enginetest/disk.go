// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// SmallDisk takes so many bytes of content and is full then, which its Space conceals: so are volumes that others write
// to.
type SmallDisk struct{ Left atomic.Int64 }

// Create implements store.Disk.
func (d *SmallDisk) Create(path string) (store.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &smallFile{File: file, disk: d}, nil
}

// Space implements store.Disk.
func (d *SmallDisk) Space(string) (store.Space, error) {
	return store.Space{Total: 1 << 40, Free: 1 << 39}, nil
}

// HonestDisk is a SmallDisk that reports its space.
type HonestDisk struct {
	SmallDisk
	Total int64
}

// Space implements store.Disk.
func (d *HonestDisk) Space(string) (store.Space, error) {
	return store.Space{Total: uint64(d.Total), Free: uint64(max(0, d.Left.Load()))}, nil
}

type smallFile struct {
	*os.File
	disk *SmallDisk
}

// Write implements io.Writer.
func (f *smallFile) Write(p []byte) (int, error) {
	if left := f.disk.Left.Add(-int64(len(p))); left < 0 {
		fits := max(0, int64(len(p))+left)
		n, _ := f.File.Write(p[:fits])
		return n, unix.ENOSPC
	}
	return f.File.Write(p)
}
