// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus/hooks/test"
)

func TestDeletedFile(t *testing.T) {
	log, _ := test.NewNullLogger()
	parse := func(content []byte) (string, error) { return string(content), nil }
	for name, c := range map[string]struct {
		open    func(path string) (*file[string], error)
		deleted string
	}{
		"keeps the value of a file that has to be there": {
			func(path string) (*file[string], error) { return open(path, log, parse) }, "before",
		},
		"drops the value of an optional one": {
			func(path string) (*file[string], error) { return openOptional(path, log, parse) }, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			path := filepath.Join(t.TempDir(), "file")
			g.Expect(os.WriteFile(path, []byte("before"), 0o600)).To(Succeed())
			f, err := c.open(path)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(f.get()).To(Equal("before"))
			g.Expect(os.Remove(path)).To(Succeed())
			g.Expect(f.get()).To(Equal(c.deleted))
			g.Expect(os.WriteFile(path, []byte("after"), 0o600)).To(Succeed())
			g.Expect(f.get()).To(Equal("after"))
		})
	}
}

func TestFileThatCouldNotBeReadIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, path := NewWithT(t), filepath.Join(t.TempDir(), "file")
		log, logged := test.NewNullLogger()
		parse := func(content []byte) (string, error) {
			if string(content) == "bad" {
				return "", errors.New("is bad")
			}
			return string(content), nil
		}
		g.Expect(os.WriteFile(path, []byte("before"), 0o600)).To(Succeed())
		f, err := open(path, log, parse)
		g.Expect(err).NotTo(HaveOccurred())

		g.Expect(os.WriteFile(path, []byte("after this"), 0o600)).To(Succeed())
		f.openFile = func(path string) (*os.File, error) {
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
		}
		for range 3 {
			g.Expect(f.get()).To(Equal("before"))
		}
		g.Expect(logged.Entries).To(HaveLen(1))
		f.openFile = os.Open
		time.Sleep(retryInterval)
		g.Expect(f.get()).To(Equal("after this"))

		g.Expect(os.WriteFile(path, []byte("bad"), 0o600)).To(Succeed())
		for range 3 {
			g.Expect(f.get()).To(Equal("after this"))
			time.Sleep(retryInterval)
		}
		g.Expect(logged.Entries).To(HaveLen(2))
	})
}
