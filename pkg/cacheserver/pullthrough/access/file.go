// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// maxFile bounds each of the files.
	maxFile = 1 << 20
	// retryInterval is when a file that could not be read is read again. The reason may have been a lack of descriptors.
	retryInterval = 10 * time.Second
)

// file is the parsed content of a file that may be replaced at any time. Each use checks whether it was: a call of stat
// costs little, and a watch could miss the symlinks with which Kubernetes swaps a mounted Secret. Content that cannot
// be used is logged once, and the previous content stays.
type file[T any] struct {
	path  string
	parse func(content []byte) (T, error)
	log   logrus.FieldLogger
	// optional means that a missing file has the zero value. Otherwise, the previous content stays.
	optional bool
	// openFile replaces os.Open in tests.
	openFile func(path string) (*os.File, error)

	mu    sync.Mutex
	value T
	// loaded is the file of the value, rejected the last one that could not be used. If that could not even be read, it is
	// read again at the time in retry.
	loaded, rejected os.FileInfo
	retry            time.Time
}

// open reads a file for the first time, when its content has to be usable.
func open[T any](path string, log logrus.FieldLogger, parse func([]byte) (T, error)) (*file[T], error) {
	f := &file[T]{path: path, parse: parse, log: log, openFile: os.Open}
	info, err := os.Stat(path)
	if err == nil {
		err = f.read(info)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// openOptional is [open] for a file that may be missing. While it is, its value is the zero value.
func openOptional[T any](path string, log logrus.FieldLogger, parse func([]byte) (T, error)) (*file[T], error) {
	f, err := open(path, log, parse)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = &file[T]{path: path, parse: parse, log: log, openFile: os.Open}, nil
	}
	if err == nil {
		f.optional = true
	}
	return f, err
}

// get returns the latest usable content. It is the same value until the file changes.
func (f *file[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if f.optional && errors.Is(err, fs.ErrNotExist) {
		// A look-up that was under way when a mounted Secret was replaced may have ended in its previous directory.
		if info, err = os.Stat(f.path); errors.Is(err, fs.ErrNotExist) {
			f.clear()
		}
	}
	if err != nil || same(info, f.loaded) || same(info, f.rejected) && (f.retry.IsZero() || time.Now().Before(f.retry)) {
		return f.value
	}
	if err := f.read(info); err != nil {
		f.rejected, f.retry = info, time.Time{}
		if failure := (*fs.PathError)(nil); errors.As(err, &failure) {
			f.retry = time.Now().Add(retryInterval)
		}
		f.log.WithError(err).Error("Ignored changed file for the access of clients")
	}
	return f.value
}

// clear drops the value of a file that was deleted.
func (f *file[T]) clear() {
	if f.loaded != nil {
		f.log.Warn("File for the access of clients is missing")
	}
	var none T
	f.value, f.loaded, f.rejected = none, nil, nil
}

func (f *file[T]) read(info os.FileInfo) error {
	opened, err := f.openFile(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Close() }()
	content, err := io.ReadAll(io.LimitReader(opened, maxFile+1))
	switch {
	case err != nil:
		return err
	case len(content) > maxFile:
		return fmt.Errorf("%s is larger than %d bytes", f.path, maxFile)
	}
	value, err := f.parse(content)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.value, f.loaded, f.rejected = value, info, nil
	return nil
}

func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
