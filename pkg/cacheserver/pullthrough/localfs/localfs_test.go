// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package localfs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/localfs"
)

var _ = Describe("Driver", func() {
	var (
		ctx         = context.Background()
		root        string
		ours, stock driver.StorageDriver
	)

	BeforeEach(func() {
		root = filepath.Join(GinkgoT().TempDir(), "root")
		parameters := map[string]any{"rootdirectory": root, "maxthreads": 30}
		var err error
		ours, err = localfs.Factory{}.Create(ctx, parameters)
		Expect(err).NotTo(HaveOccurred())
		stock, err = filesystem.FromParameters(parameters)
		Expect(err).NotTo(HaveOccurred())
		for _, file := range []string{"/a/_uploads/1/startedat", "/a/b/link", "/a/b/c/link", "/z/link", "/.dot/link"} {
			Expect(stock.PutContent(ctx, file, []byte("content of "+file))).To(Succeed())
		}
		Expect(os.WriteFile(filepath.Join(root, "..", "outside"), []byte("outside"), 0o600)).To(Succeed())
	})

	// seen renders everything that a driver returns for a path, including errors.
	seen := func(d driver.StorageDriver, path string) string {
		info, err := d.Stat(ctx, path)
		out := fmt.Sprintf("stat: %v %T\n", err, err)
		if err == nil {
			out += fmt.Sprintln(info.Path(), info.Size(), info.ModTime(), info.IsDir())
		}
		children, err := d.List(ctx, path)
		slices.Sort(children)
		out += fmt.Sprintf("list: %v %T\n", children, err)
		content, err := d.GetContent(ctx, path)
		out += fmt.Sprintf("content: %q %T\n", content, err)
		for _, offset := range []int64{-1, 0, 3, 1000} {
			reader, err := d.Reader(ctx, path, offset)
			out += fmt.Sprintf("reader: %T\n", err)
			if err == nil {
				content, _ := io.ReadAll(reader)
				Expect(reader.Close()).To(Succeed())
				out += fmt.Sprintf("read from %d: %q\n", offset, content)
			}
		}
		return out
	}

	DescribeTable("reads like Distribution's driver", func(path string) {
		Expect(seen(ours, path)).To(Equal(seen(stock, path)))
	},
		Entry("the root", "/"),
		Entry("a directory", "/a"),
		Entry("a file", "/a/b/link"),
		Entry("a file in a hidden directory", "/.dot/link"),
		Entry("a path that does not exist", "/a/nothing"),
		Entry("a path below a file", "/a/b/link/below"),
		Entry("a relative path", "a/b"),
		Entry("a path with an empty element", "/a//b"),
		Entry("a path with invalid characters", "/a/b c"),
	)

	DescribeTable("walks like Distribution's driver", func(from string, visit driver.WalkFn, options ...func(*driver.WalkOptions)) {
		walk := func(d driver.StorageDriver) (visited []string) {
			err := d.Walk(ctx, from, func(info driver.FileInfo) error {
				visited = append(visited, info.Path())
				return visit(info)
			}, options...)
			return append(visited, fmt.Sprintf("%T", err))
		}
		Expect(walk(ours)).To(Equal(walk(stock)))
		Expect(walk(ours)).NotTo(HaveLen(1))
	},
		Entry("all files", "/", everything),
		Entry("after a hint", "/", everything, driver.WithStartAfterHint("/a/b")),
		Entry("past a skipped directory", "/", func(info driver.FileInfo) error {
			if info.Path() == "/a/b" {
				return driver.ErrSkipDir
			}
			return nil
		}),
		Entry("until a buffer is full", "/a", func(info driver.FileInfo) error {
			if info.Path() == "/a/b/link" {
				return driver.ErrFilledBuffer
			}
			return nil
		}),
	)

	It("deletes a directory", func() {
		Expect(ours.Delete(ctx, "/a/_uploads")).To(Succeed())
		Expect(filepath.Join(root, "a", "_uploads")).NotTo(BeADirectory())
		Expect(filepath.Join(root, "a", "b", "link")).To(BeARegularFile())
		Expect(ours.Delete(ctx, "/a/_uploads")).To(BeAssignableToTypeOf(driver.PathNotFoundError{}))
	})

	It("stays below its root", func() {
		for _, path := range []string{"/../outside", "/a/../../outside", "/..", "/"} {
			_, err := ours.GetContent(ctx, path)
			Expect(err).To(BeAssignableToTypeOf(driver.InvalidPathError{}))
			Expect(ours.Delete(ctx, path)).To(BeAssignableToTypeOf(driver.InvalidPathError{}))
		}
		Expect(filepath.Join(root, "..", "outside")).To(BeARegularFile())
	})

	It("writes nothing", func() {
		Expect(ours.PutContent(ctx, "/new", nil)).To(BeAssignableToTypeOf(driver.ErrUnsupportedMethod{}))
		Expect(ours.Move(ctx, "/a", "/new")).To(BeAssignableToTypeOf(driver.ErrUnsupportedMethod{}))
		_, err := ours.Writer(ctx, "/new", false)
		Expect(err).To(BeAssignableToTypeOf(driver.ErrUnsupportedMethod{}))
		Expect(filepath.Join(root, "new")).NotTo(BeAnExistingFile())
		Expect(filepath.Join(root, "a")).To(BeADirectory())
	})

	DescribeTable("refuses", func(parameters map[string]any, message string) {
		_, err := localfs.Factory{}.Create(ctx, parameters)
		Expect(err).To(MatchError(ContainSubstring(message)))
	},
		Entry("no root directory", map[string]any{}, "rootdirectory is missing"),
		Entry("a number of threads that is a word", map[string]any{"rootdirectory": "/", "maxthreads": "many"}, "maxthreads: many"),
		Entry("a negative number of threads", map[string]any{"rootdirectory": "/", "maxthreads": -1}, "maxthreads: -1"),
	)
})

func everything(driver.FileInfo) error { return nil }
