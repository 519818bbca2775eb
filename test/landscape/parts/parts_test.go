// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"context"
	"errors"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("The catalog", func() {
	for _, family := range catalog {
		It("lists what the module of "+family.name+" pins", func() {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(family.name, "parts.go"), nil, parser.ImportsOnly)
			Expect(err).NotTo(HaveOccurred())
			var pinned, listed []string
			for _, spec := range file.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				Expect(err).NotTo(HaveOccurred())
				pinned = append(pinned, path)
			}
			for _, program := range family.programs {
				listed = append(listed, program.path)
			}
			Expect(listed).To(ConsistOf(pinned))
		})
	}
})

var _ = Describe("Builder", func() {
	It("does not know other programs", func() {
		b := &Builder{Repository: "../../..", Cache: GinkgoT().TempDir()}
		_, err := b.Build(GinkgoT().Context(), "nginx")
		Expect(err).To(MatchError(ContainSubstring(`no part called "nginx"`)))
	})

	It("builds nothing that the cache holds", func() {
		cache := GinkgoT().TempDir()
		source := filepath.Join("../../..", "test", "landscape", "parts", "kubernetes")
		flags, err := linkerFlags(source, catalog[0])
		Expect(err).NotTo(HaveOccurred())
		key, err := cacheKey(source, flags)
		Expect(err).NotTo(HaveOccurred())
		etcd := filepath.Join(cache, "kubernetes-"+key, Etcd)
		Expect(os.MkdirAll(filepath.Dir(etcd), 0o750)).To(Succeed())
		Expect(os.WriteFile(etcd, nil, 0o600)).To(Succeed())

		b := &Builder{Repository: "../../..", Cache: cache}
		Expect(b.Build(GinkgoT().Context(), Etcd)).To(Equal(map[string]string{Etcd: etcd}))
	})
})

var _ = Describe("What a build depends on", func() {
	var source string

	write := func(name, content string) {
		GinkgoHelper()
		Expect(os.WriteFile(filepath.Join(source, name), []byte(content), 0o600)).To(Succeed())
	}
	module := family{name: "family", module: "example.com/module"}

	BeforeEach(func() {
		source = GinkgoT().TempDir()
		write("go.mod", "module example.com/parts\n\nrequire example.com/module v1.36.3\n")
		write("go.sum", "")
	})

	It("makes programs report the version of their module", func() {
		Expect(linkerFlags(source, module)).To(And(
			ContainSubstring("gitVersion=v1.36.3"), ContainSubstring("gitMajor=1 "), ContainSubstring("gitMinor=36")))
	})

	It("refuses a module that is not pinned", func() {
		write("go.mod", "module example.com/parts\n")
		_, err := linkerFlags(source, module)
		Expect(err).To(MatchError(ContainSubstring("does not require example.com/module")))
	})

	It("changes the key with every input", func() {
		key := func(flags string) string {
			GinkgoHelper()
			key, err := cacheKey(source, flags)
			Expect(err).NotTo(HaveOccurred())
			return key
		}
		before := key("-s")
		Expect(key("-s")).To(Equal(before))
		Expect(key("-w")).NotTo(Equal(before))
		write("go.sum", "changed")
		Expect(key("-s")).NotTo(Equal(before))
	})
})

var _ = Describe("lock", func() {
	It("lets one in at a time", func() {
		path := filepath.Join(GinkgoT().TempDir(), "lock")
		unlock, err := lock(GinkgoT().Context(), path)
		Expect(err).NotTo(HaveOccurred())

		impatient, cancel := context.WithTimeout(GinkgoT().Context(), 50*time.Millisecond)
		defer cancel()
		_, err = lock(impatient, path)
		Expect(errors.Is(err, context.DeadlineExceeded)).To(BeTrue())

		unlock()
		unlock, err = lock(GinkgoT().Context(), path)
		Expect(err).NotTo(HaveOccurred())
		unlock()
	})
})
