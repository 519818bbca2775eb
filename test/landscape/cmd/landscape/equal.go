// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
)

// equalFiles reports whether both files exist and have the same content.
func equalFiles(first, second string) (bool, error) {
	var sums [2][sha256.Size]byte
	for i, path := range []string{first, second} {
		sum, err := checksum(path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		sums[i] = sum
	}
	return sums[0] == sums[1], nil
}

func checksum(path string) (sum [sha256.Size]byte, err error) {
	file, err := os.Open(path) // #nosec G304 -- our own program.
	if err != nil {
		return sum, err
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}
