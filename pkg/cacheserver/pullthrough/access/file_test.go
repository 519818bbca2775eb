// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"os"
	"path/filepath"
	"testing"

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
