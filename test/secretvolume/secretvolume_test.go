// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package secretvolume_test

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/secretvolume"
)

func TestWriteReplacesTheFiles(t *testing.T) {
	g := NewWithT(t)
	dir := filepath.Join(t.TempDir(), "secret")
	for _, files := range []map[string][]byte{
		{"username": []byte("robot"), "password": []byte("first")},
		{"password": []byte("second")},
	} {
		g.Expect(secretvolume.Write(dir, files)).To(Succeed())
		visible, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(visible).To(HaveLen(len(files)))
		for name, content := range files {
			g.Expect(os.ReadFile(filepath.Join(dir, name))).To(Equal(content))
		}
	}
}
