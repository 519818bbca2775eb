// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

func TestProbe(t *testing.T) {
	t.Run("leaves no file behind, and is no content", func(t *testing.T) {
		g := NewWithT(t)
		root := t.TempDir()
		s, err := store.Open(root, nil)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Probe()).To(Succeed())
		g.Expect(filepath.Glob(filepath.Join(root, "pullthrough/probe/*"))).To(BeEmpty())
		g.Expect(s.WalkBlobs(func(digest.Digest, fs.FileInfo) error { return fs.ErrExist })).To(Succeed())
		g.Expect(s.WalkRepositories(func(string) error { return fs.ErrExist })).To(Succeed())
	})
	t.Run("replaces the file of a process that was killed", func(t *testing.T) {
		g := NewWithT(t)
		root := t.TempDir()
		s, err := store.Open(root, nil)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(os.MkdirAll(filepath.Join(root, "pullthrough/probe"), 0o700)).To(Succeed())
		g.Expect(os.WriteFile(filepath.Join(root, "pullthrough/probe/file"), nil, 0o600)).To(Succeed())
		g.Expect(s.Probe()).To(Succeed())
		g.Expect(filepath.Glob(filepath.Join(root, "pullthrough/probe/*"))).To(BeEmpty())
	})
	t.Run("returns the error of a full volume", func(t *testing.T) {
		g := NewWithT(t)
		s, err := store.Open(t.TempDir(), fullDisk{})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Probe()).To(MatchError(unix.ENOSPC))
	})
}
