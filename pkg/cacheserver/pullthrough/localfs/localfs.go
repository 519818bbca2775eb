// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package localfs is the storage driver with which Distribution accesses the files of the engine.
//
// The engine reads and writes content itself. Distribution only lists repositories, checks the disk, and removes
// unfinished uploads of a stock registry, so the driver reads and deletes but does not write. Distribution's own driver
// would link exporters for traces and metrics, including gRPC, which the server does not use and which took a fifth of
// its compile time.
package localfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/storage/driver"
)

// Name is the name of Distribution's driver, whose file layout this driver shares.
const Name = "filesystem"

// The default and the minimum of the parameter maxthreads, which limits concurrent file system calls, as in
// Distribution's driver.
const (
	defaultThreads = 100
	minThreads     = 25
)

// Driver reads and deletes the files below a root directory. It implements driver.StorageDriver.
type Driver struct {
	root string
	// calls limits the threads that wait for the disk.
	calls chan struct{}
}

// Factory creates drivers from the parameters of Distribution's filesystem driver.
type Factory struct{}

// Create implements factory.StorageDriverFactory.
func (Factory) Create(_ context.Context, parameters map[string]any) (driver.StorageDriver, error) {
	root, ok := parameters["rootdirectory"]
	if !ok {
		return nil, errors.New("rootdirectory is missing")
	}
	threads := uint64(defaultThreads)
	if value, ok := parameters["maxthreads"]; ok {
		var err error
		if threads, err = strconv.ParseUint(fmt.Sprint(value), 10, 16); err != nil {
			return nil, fmt.Errorf("storage.filesystem.maxthreads: %v is not a number from 0 to %d", value, math.MaxUint16)
		}
	}
	return &Driver{root: fmt.Sprint(root), calls: make(chan struct{}, max(threads, minThreads))}, nil
}

// Name implements driver.StorageDriver.
func (*Driver) Name() string { return Name }

// GetContent implements driver.StorageDriver.
func (d *Driver) GetContent(_ context.Context, subpath string) ([]byte, error) {
	defer d.enter()()
	file, err := d.file(subpath)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(file)
	return content, classified(subpath, err)
}

// Reader implements driver.StorageDriver.
func (d *Driver) Reader(_ context.Context, subpath string, offset int64) (io.ReadCloser, error) {
	defer d.enter()()
	if offset < 0 {
		return nil, driver.InvalidOffsetError{Path: subpath, Offset: offset, DriverName: Name}
	}
	name, err := d.file(subpath)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, classified(subpath, err)
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		file.Close()
		return nil, classified(subpath, err)
	}
	return file, nil
}

// Stat implements driver.StorageDriver.
func (d *Driver) Stat(_ context.Context, subpath string) (driver.FileInfo, error) {
	defer d.enter()()
	file, err := d.entry(subpath)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, classified(subpath, err)
	}
	fields := driver.FileInfoFields{Path: subpath, ModTime: info.ModTime(), IsDir: info.IsDir()}
	if !info.IsDir() {
		fields.Size = info.Size()
	}
	return driver.FileInfoInternal{FileInfoFields: fields}, nil
}

// List implements driver.StorageDriver.
func (d *Driver) List(_ context.Context, subpath string) ([]string, error) {
	defer d.enter()()
	name, err := d.entry(subpath)
	if err != nil {
		return nil, err
	}
	directory, err := os.Open(name)
	if err != nil {
		return nil, classified(subpath, err)
	}
	defer directory.Close()
	names, err := directory.Readdirnames(0)
	if err != nil {
		return nil, classified(subpath, err)
	}
	for i, name := range names {
		names[i] = path.Join(subpath, name)
	}
	return names, nil
}

// Walk implements driver.StorageDriver.
func (d *Driver) Walk(ctx context.Context, subpath string, visit driver.WalkFn, options ...func(*driver.WalkOptions)) error {
	return driver.WalkFallback(ctx, d, subpath, visit, options...)
}

// Delete implements driver.StorageDriver.
func (d *Driver) Delete(_ context.Context, subpath string) error {
	defer d.enter()()
	file, err := d.file(subpath)
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err != nil {
		return classified(subpath, err)
	}
	return classified(subpath, os.RemoveAll(file))
}

// RedirectURL implements driver.StorageDriver. There is no other place to redirect clients to.
func (*Driver) RedirectURL(*http.Request, string) (string, error) { return "", nil }

// PutContent implements driver.StorageDriver.
func (*Driver) PutContent(context.Context, string, []byte) error { return errReadOnly }

// Writer implements driver.StorageDriver.
func (*Driver) Writer(context.Context, string, bool) (driver.FileWriter, error) {
	return nil, errReadOnly
}

// Move implements driver.StorageDriver.
func (*Driver) Move(context.Context, string, string) error { return errReadOnly }

var errReadOnly = driver.ErrUnsupportedMethod{DriverName: Name}

// enter acquires a slot of calls and returns the function that releases it.
func (d *Driver) enter() (leave func()) {
	d.calls <- struct{}{}
	return func() { <-d.calls }
}

// entry returns the file for a path, which can be the root.
func (d *Driver) entry(subpath string) (string, error) {
	if subpath == "/" {
		return d.root, nil
	}
	return d.file(subpath)
}

// file returns the file for a path. It is always below the root.
func (d *Driver) file(subpath string) (string, error) {
	relative, absolute := strings.CutPrefix(subpath, "/")
	if !absolute || !filepath.IsLocal(relative) || !driver.PathRegexp.MatchString(subpath) {
		return "", driver.InvalidPathError{Path: subpath, DriverName: Name}
	}
	return filepath.Join(d.root, relative), nil
}

// classified converts an error to a kind that Distribution recognizes.
func classified(subpath string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return driver.PathNotFoundError{Path: subpath, DriverName: Name}
	}
	return driver.Error{DriverName: Name, Detail: err}
}
