// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package landscape

import (
	"errors"
	"io"
	"os"
)

// Place links a program of the parts' cache to another path, or copies it to another file system.
func Place(source, target string) error {
	if err := os.Link(source, target); err == nil {
		return nil
	}
	return Copy(source, target)
}

// Copy copies a program.
func Copy(source, target string) error {
	from, err := os.Open(source) // #nosec G304 -- our own program.
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755) // #nosec G302 G304 -- our own program.
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}
