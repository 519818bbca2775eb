// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"path/filepath"
)

// probeFile is outside of Distribution's layout, so it is never content.
const probeFile = "pullthrough/probe/file"

// Probe creates, writes, syncs and removes a small file, in a directory of its own. It takes no lock, which a call that
// does not return may hold. Calls must not overlap.
func (s *Store) Probe() error {
	path := filepath.Join(s.root, probeFile)
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	_ = os.Remove(path) // A process that was killed may have left it.
	file, err := s.disk.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write([]byte("This file shows that the volume responds.\n"))
	return errors.Join(err, file.Sync(), file.Close(), os.Remove(path))
}
