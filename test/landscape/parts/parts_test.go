// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"

	"github.com/larder-project/larder/test/landscape/progress"
)

const repository = "../../.."

var _ = Describe("The catalog", func() {
	It("names each program once", func() {
		seen := map[string]bool{}
		for _, name := range All() {
			Expect(seen).NotTo(HaveKey(name))
			seen[name] = true
		}
		Expect(External()).To(HaveLen(len(Needed()) - len(catalog[0].names())))
	})

	It("leaves out of a landscape what only tests need", func() {
		Expect(All()).To(ContainElements(Prometheus, Promtool, PrometheusConfig, Crane))
		Expect(Needed()).NotTo(ContainElements(Prometheus, Promtool, PrometheusConfig, Crane))
		Expect(Needed()).To(ContainElements(Landscape, KubeAPIServer, GardenerAPIServer, Containerd))
	})

	for _, module := range catalog {
		for _, program := range module.programs {
			if len(program.names) < 2 {
				continue
			}
			It("has the names of "+program.pkg, func() {
				Expect(program.names).To(ConsistOf(programNames(filepath.Join(module.name, program.file(), "main.go"))))
			})
		}
	}

	It("lists the programs that its modules pin", func() {
		files, err := filepath.Glob("*/programs.go")
		Expect(err).NotTo(HaveOccurred())
		Expect(files).To(ConsistOf("containerd/programs.go", "prometheus/programs.go"))
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			Expect(err).NotTo(HaveOccurred())
			var pinned, listed []string
			for _, spec := range file.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				Expect(err).NotTo(HaveOccurred())
				pinned = append(pinned, path)
			}
			for _, module := range catalog {
				for _, program := range module.programs {
					if module.name == filepath.Dir(path) && !strings.HasPrefix(program.pkg, own) {
						listed = append(listed, program.pkg)
					}
				}
			}
			Expect(listed).To(ConsistOf(pinned), path)
		}
	})
})

// programNames returns the keys of the variable "programs" in a source file.
func programNames(path string) []string {
	GinkgoHelper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	Expect(err).NotTo(HaveOccurred())
	var names []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "programs" {
			return true
		}
		for _, element := range spec.Values[0].(*ast.CompositeLit).Elts {
			name, err := strconv.Unquote(element.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value)
			Expect(err).NotTo(HaveOccurred())
			names = append(names, name)
		}
		return false
	})
	return names
}

var _ = Describe("Builder", func() {
	var builder *Builder

	BeforeEach(func() {
		builder = &Builder{Repository: repository, Cache: GinkgoT().TempDir(), Progress: progress.New(io.Discard), Log: io.Discard}
	})

	It("rejects unknown programs", func() {
		_, err := builder.Build(GinkgoT().Context(), "nginx")
		Expect(err).To(MatchError(ContainSubstring(`unknown program "nginx"`)))
	})

	It("builds nothing that is in the cache", func() {
		targets, err := builder.targets([]string{Etcd})
		Expect(err).NotTo(HaveOccurred())
		Expect(os.MkdirAll(targets[0].dir, 0o750)).To(Succeed())
		for _, name := range targets[0].programs[0].names {
			Expect(os.WriteFile(filepath.Join(targets[0].dir, name), nil, 0o600)).To(Succeed())
		}
		Expect(builder.Build(GinkgoT().Context(), Etcd)).To(HaveKeyWithValue(Etcd, filepath.Join(targets[0].dir, Etcd)))
	})

	It("names the command that builds missing programs", func() {
		_, err := builder.Find(Etcd)
		Expect(err).To(MatchError(And(ContainSubstring("etcd"), ContainSubstring("make programs"))))
	})

	It("builds only missing programs", func() {
		targets, err := builder.targets([]string{Etcd, GardenerAPIServer})
		Expect(err).NotTo(HaveOccurred())
		Expect(targets).To(HaveLen(1))
		Expect(targets[0].programs).To(HaveLen(2))
		Expect(os.MkdirAll(targets[0].dir, 0o750)).To(Succeed())
		for _, name := range targets[0].programs[0].names {
			Expect(os.WriteFile(filepath.Join(targets[0].dir, name), nil, 0o600)).To(Succeed())
		}
		missing, err := targets[0].missing()
		Expect(err).NotTo(HaveOccurred())
		Expect(missing).To(HaveLen(1))
		Expect(missing[0].names).To(ContainElement(GardenerAPIServer))
	})
})

var _ = Describe("A build of a small module", func() {
	var (
		target *target
		log    *gbytes.Buffer
		work   *tally
	)

	write := func(name, content string) {
		GinkgoHelper()
		path := filepath.Join(target.source, name)
		Expect(os.MkdirAll(filepath.Dir(path), 0o750)).To(Succeed())
		Expect(os.WriteFile(path, []byte(content), 0o600)).To(Succeed())
	}
	build := func() (*plan, error) {
		GinkgoHelper()
		plan, err := target.plan(GinkgoT().Context(), log, func(string) {})
		if err != nil {
			return nil, err
		}
		work.add(plan)
		work.complete()
		return plan, target.build(GinkgoT().Context(), log, plan, work)
	}

	BeforeEach(func() {
		dir := GinkgoT().TempDir()
		target = newTarget(dir)
		log = gbytes.NewBuffer()
		work = newTally(progress.New(io.Discard).Begin("build"))
		write("go.mod", "module example.com/m\n\ngo 1.26\n")
		write("both/main.go", "package main\n\nimport \"example.com/m/word\"\n\nfunc main() { println(word.Word) }\n")
		write("word/word.go", fmt.Sprintf("package word\n\nconst Word = %q\n", dir))
	})

	It("links one program under all its names", func() {
		plan, err := build()
		Expect(err).NotTo(HaveOccurred())
		Expect(plan.packages).To(And(HaveKey("example.com/m/both"), HaveKey("example.com/m/word")))
		first, err := os.Stat(filepath.Join(target.dir, "one"))
		Expect(err).NotTo(HaveOccurred())
		second, err := os.Stat(filepath.Join(target.dir, "two"))
		Expect(err).NotTo(HaveOccurred())
		Expect(os.SameFile(first, second)).To(BeTrue())
	})

	It("has less work the second time", func() {
		_, err := build()
		Expect(err).NotTo(HaveOccurred())
		plan, err := target.plan(GinkgoT().Context(), log, func(string) {})
		Expect(err).NotTo(HaveOccurred())
		Expect(plan.packages).NotTo(HaveKey("example.com/m/word"))
	})

	It("fails with the relevant line and logs the complete output", func() {
		write("word/word.go", "package word\n\nvar Word string = 1\n")
		_, err := build()
		var failure *BuildError
		Expect(errors.As(err, &failure)).To(BeTrue())
		Expect(failure.Error()).To(ContainSubstring("word.go:3"))
		Expect(failure.Remedy()).To(ContainSubstring("git status"))
		Expect(log).To(gbytes.Say("go build"))
		Expect(log).To(gbytes.Say("word.go:3"))
	})
})

var _ = Describe("A build of two modules", func() {
	var builder *Builder

	newModule := func(source string) *target {
		GinkgoHelper()
		dir := GinkgoT().TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/m\n\ngo 1.26\n"), 0o600)).To(Succeed())
		Expect(os.Mkdir(filepath.Join(dir, "both"), 0o750)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "both", "main.go"), []byte(source), 0o600)).To(Succeed())
		return newTarget(dir)
	}
	const program = "package main\n\nfunc main() {}\n"

	BeforeEach(func() {
		builder = &Builder{Progress: progress.New(io.Discard), Log: io.Discard}
	})

	It("builds one after the other", func() {
		targets := []*target{newModule(program), newModule(program)}
		Expect(builder.build(GinkgoT().Context(), targets)).To(Succeed())
		for _, target := range targets {
			Expect(filepath.Join(target.dir, "two")).To(BeARegularFile())
		}
	})

	It("fails with the reason of a failed plan", func() {
		err := builder.build(GinkgoT().Context(), []*target{newModule(program), newModule("no program")})
		var failure *BuildError
		Expect(errors.As(err, &failure)).To(BeTrue())
		Expect(errors.Is(err, context.Canceled)).To(BeFalse())
	})

	It("reports that it was stopped", func() {
		ctx, stop := context.WithCancel(GinkgoT().Context())
		stop()
		Expect(builder.build(ctx, []*target{newModule(program)})).To(MatchError(context.Canceled))
	})
})

func newTarget(dir string) *target {
	module := module{name: "m", programs: []program{{pkg: "example.com/m/both", names: []string{"one", "two"}}}}
	return &target{source: dir, module: module, dir: filepath.Join(dir, "out"), programs: module.programs}
}

var _ = Describe("The inputs of a build", func() {
	var source string

	write := func(name, content string) {
		GinkgoHelper()
		Expect(os.WriteFile(filepath.Join(source, name), []byte(content), 0o600)).To(Succeed())
	}

	BeforeEach(func() {
		source = GinkgoT().TempDir()
		write("go.mod", "module example.com/parts\n\nrequire example.com/module v1.36.3\n")
		write("go.sum", "")
	})

	It("makes programs report the version of their module", func() {
		t := &target{source: source, module: module{name: "m", programs: []program{{pkg: "p", version: "example.com/module"}}}}
		Expect(t.buildFlags()).To(ContainElement(And(
			HavePrefix("-ldflags=p="), ContainSubstring("gitVersion=v1.36.3"), ContainSubstring("gitMajor=1 "), ContainSubstring("gitMinor=36"))))
	})

	It("rejects a module that is not pinned", func() {
		_, err := ModuleVersion(source, "example.com/other")
		Expect(err).To(MatchError(ContainSubstring("does not require example.com/other")))
	})

	It("changes the key with every input", func() {
		key := func(flags ...string) string {
			GinkgoHelper()
			key, err := cacheKey(source, flags)
			Expect(err).NotTo(HaveOccurred())
			return key
		}
		before := key("-s")
		Expect(key("-s")).To(Equal(before))
		Expect(key("-w")).NotTo(Equal(before))
		write("go.sum", "changed")
		changed := key("-s")
		Expect(changed).NotTo(Equal(before))
		write("main.go", "package main")
		Expect(key("-s")).NotTo(Equal(changed))
	})
})

var _ = Describe("A tally", func() {
	It("estimates by the weight of completed work", func() {
		Expect(estimate(time.Second, 50, 100)).To(Equal("no estimate yet"))
		Expect(estimate(time.Minute, 1, 100)).To(Equal("no estimate yet"))
		Expect(estimate(2*time.Minute, 20, 100)).To(Equal("about 8 min left"))
		Expect(estimate(9*time.Minute, 90, 100)).To(Equal("about 1 min left"))
		Expect(estimate(9*time.Minute, 99, 100)).To(Equal("less than a minute left"))
	})

	It("counts shared packages once, and packages when their compilation starts", func() {
		first := &plan{packages: map[string]string{"a": "a@v1", "b": "b@v1"}, weights: map[string]int64{"a@v1": 1, "b@v1": 1}}
		second := &plan{packages: map[string]string{"a": "a@v1", "b": "b@v2"}, weights: map[string]int64{"a@v1": 1, "b@v2": 1}}
		work := newTally(progress.New(io.Discard).Begin("build"))
		work.add(first)
		Expect(work.summary()).To(Equal("0 of 2 packages and more"))
		work.add(second)
		work.complete()
		Expect(work.started(first, "a")).To(BeTrue())
		Expect(work.started(first, "c")).To(BeFalse())
		Expect(work.summary()).To(HavePrefix("1 of 3 packages, "))
		work.finish(first)
		Expect(work.summary()).To(HavePrefix("2 of 3 packages, "))
	})

	It("weighs a program by everything linked, except for what is up to date", func() {
		p, err := readPlan(strings.NewReader(`{"ImportPath":"a","Name":"a","Stale":false,"Module":{"Version":"v1"}}
{"ImportPath":"b","Name":"b","Stale":true}
{"ImportPath":"c","Name":"main","Stale":true}`), func(listed) int64 { return 1000 })
		Expect(err).NotTo(HaveOccurred())
		Expect(p.weights).To(Equal(map[string]int64{"b": packageWeight + 1000, "c": packageWeight + 1000 + int64(linkWeight*3000)}))
	})
})

var _ = DescribeTable("The remedy of a failure", func(output, err, remedy string) {
	Expect((&BuildError{Err: errors.New(err), Output: output}).Remedy()).To(ContainSubstring(remedy))
},
	Entry("no network", "go: example.com/m@v1.0.0: Get \"https://proxy/\": dial tcp: lookup proxy: no such host", "exit status 1", "module proxy"),
	Entry("a full disk", "compile: writing output: write $WORK/b1/_pkg_.a: no space left on device", "exit status 1", "disk space"),
	Entry("a changed module", "verifying example.com/m@v1.0.0: checksum mismatch", "exit status 1", "clean -modcache"),
	Entry("an old Go", "go: go.mod requires go >= 1.26.6 (running go 1.25.1; GOTOOLCHAIN=local)", "exit status 1", "version of Go"),
	Entry("too little memory", "example.com/m: compile: signal: killed", "exit status 1", "memory"),
	Entry("an aborted connection", "go: example.com/m@v1.0.0: Get \"https://proxy/\": unexpected EOF", "exit status 1", "module proxy"),
	Entry("a truncated file", "# example.com/m\nm.go:9:1: syntax error: unexpected EOF, expecting }", "exit status 1", "git status"),
	Entry("anything else", "# example.com/m\nm.go:1:1: expected 'package'", "exit status 1", "git status"),
)

var _ = Describe("lock", func() {
	It("admits one holder at a time", func() {
		path, waited := filepath.Join(GinkgoT().TempDir(), "lock"), 0
		unlock, err := lock(GinkgoT().Context(), path, func() { waited++ })
		Expect(err).NotTo(HaveOccurred())

		impatient, cancel := context.WithTimeout(GinkgoT().Context(), 50*time.Millisecond)
		defer cancel()
		_, err = lock(impatient, path, func() { waited++ })
		Expect(errors.Is(err, context.DeadlineExceeded)).To(BeTrue())
		Expect(waited).To(Equal(1))

		unlock()
		unlock, err = lock(GinkgoT().Context(), path, func() { waited++ })
		Expect(err).NotTo(HaveOccurred())
		unlock()
	})
})
