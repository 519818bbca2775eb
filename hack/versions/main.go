// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command versions prints the versions of the landscape's components and changes them:
//
//	go run ./hack/versions
//	go run ./hack/versions kubernetes=v1.36.4 gardener=v1.150.0
//
// It keeps shared dependencies of the repository's Go modules at the same version: a package that two modules select in
// two versions is compiled twice.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// modules are the directories of the Go modules whose versions agree. The product is the first one.
var modules = []string{".", "test/landscape/parts/cluster", "test/landscape/parts/containerd", "test/landscape/parts/prometheus", "hack/tools"}

// apart are the modules whose versions may differ, with the reason.
var apart = map[string]string{
	"github.com/containerd/containerd/v2":    "the landscape runs a later containerd than Gardener's node agent imports",
	"github.com/containerd/containerd/api":   "it must match containerd",
	"k8s.io/cri-api":                         "the kubelet does not compile with the version that containerd implements",
	"github.com/hashicorp/golang-lru":        laterInPrometheus,
	"github.com/prometheus/exporter-toolkit": laterInPrometheus,
	"go.yaml.in/yaml/v4":                     laterInPrometheus,
}

// laterInPrometheus is the reason for modules that little depends on.
const laterInPrometheus = "Prometheus requires a later version than Gardener; to raise it for all would recompile Gardener"

// part is a component of the landscape with its own version.
type part struct {
	name string
	// module is the Go module of the component, dir the directory whose go.mod pins it.
	module, dir string
	// mentions are the other files with the version, and patterns with the version in a group.
	mentions []mention
}

type mention struct{ path, pattern string }

var parts = []part{
	{
		name: "kubernetes", module: "k8s.io/kubernetes", dir: "test/landscape/parts/cluster",
		mentions: []mention{
			{"example/20-shoot.yaml", `(?m)^    version: ([0-9.]+)$`},
			{"example/20-shoot-all-fields.yaml", `(?m)^    version: ([0-9.]+)$`},
			{"example/20-shoot-mirrors.yaml", `(?m)^    version: ([0-9.]+)$`},
			{"test/landscape/garden/manifests/landscape.yaml", `(?m)^    - version: ([0-9.]+)$`},
			{"test/integration/admission/garden/garden.yaml", `(?m)^    - version: ([0-9.]+)$`},
			{"test/integration/admission/garden/garden.go", `Kubernetes\{Version: "([0-9.]+)"\}`},
			{"hack/api-reference/config.yaml", `kubernetesVersion: "([0-9.]+)"`},
			{"docs/installation.md", `Kubernetes ([0-9.]+[0-9])`},
		},
	},
	{
		name: "gardener", module: "github.com/gardener/gardener", dir: ".",
		mentions: []mention{
			{"test/landscape/garden/charts.go", `gardenerVersion = "v([0-9.]+)"`},
			{"docs/installation.md", `Gardener v([0-9.]+[0-9])`},
		},
	},
	{
		name: "containerd", module: "github.com/containerd/containerd/v2", dir: "test/landscape/parts/containerd",
		mentions: []mention{
			{"test/landscape/gardenlet/node.go", `containerdVersion = "([0-9.]+)"`},
			{"test/bench/faults/puller/go.mod", `github.com/containerd/containerd/v2 v([0-9.]+)`},
		},
	},
	{name: "etcd", module: "go.etcd.io/etcd/server/v3", dir: "test/landscape/parts/cluster"},
	{name: "prometheus", module: "github.com/prometheus/prometheus", dir: "test/landscape/parts/prometheus"},
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "versions:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	for _, argument := range arguments {
		name, version, _ := strings.Cut(argument, "=")
		index := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if index < 0 || !semver.IsValid(version) || semver.Canonical(version) != version {
			return fmt.Errorf("%q is not one of kubernetes, gardener, containerd, etcd, prometheus with a version such as kubernetes=v1.36.4", argument)
		}
		if err := parts[index].move(version); err != nil {
			return fmt.Errorf("move to %s: %w", argument, err)
		}
	}
	if len(arguments) > 0 {
		if err := align(); err != nil {
			return err
		}
	}
	for _, part := range parts {
		version, err := required(part.dir, part.module)
		if err != nil {
			return err
		}
		fmt.Printf("%-12s %s\n", part.name, version)
	}
	return nil
}

// move changes the required version and all its mentions.
func (p part) move(version string) error {
	for _, dir := range modules {
		file, err := read(dir)
		if err != nil {
			return err
		}
		edits, err := p.edits(dir, file, version)
		if err != nil {
			return err
		}
		if err := edit(dir, edits); err != nil {
			return err
		}
	}
	for _, mention := range p.mentions {
		content, err := os.ReadFile(mention.path)
		if err != nil {
			return err
		}
		replaced := mention.replace(string(content), version)
		if err := os.WriteFile(mention.path, []byte(replaced), 0o644); err != nil { // #nosec G306 G703 -- a source file.
			return err
		}
	}
	return nil
}

// edits returns the arguments of go mod edit that change the version in one go.mod. Kubernetes consists of many
// modules, which require each other in a version that does not exist.
func (p part) edits(dir string, file *modfile.File, version string) ([]string, error) {
	var edits []string
	for _, require := range file.Require {
		path := require.Mod.Path
		switch {
		case path == p.module && (dir == p.dir || apart[path] == ""):
			edits = append(edits, "-require="+path+"@"+version)
		case p.name == "gardener" && path == p.module+"/pkg/apis":
			edits = append(edits, "-require="+path+"@"+version)
		case p.name == "kubernetes" && apart[path] == "":
			staging, err := stagingModules()
			if err != nil {
				return nil, err
			}
			if slices.Contains(staging, path) {
				edits = append(edits, "-require="+path+"@"+stagingVersion(version))
			}
		}
	}
	if p.name == "kubernetes" {
		for _, replace := range file.Replace {
			if replace.Old.Version == "v0.0.0" {
				edits = append(edits, fmt.Sprintf("-replace=%[1]s@v0.0.0=%[1]s@%[2]s", replace.Old.Path, stagingVersion(version)))
			}
		}
	}
	return edits, nil
}

// replace replaces the mentioned version and keeps its precision.
func (m mention) replace(content, version string) string {
	pattern := regexp.MustCompile(m.pattern)
	groups := pattern.FindStringSubmatchIndex(content)
	if groups == nil {
		return content
	}
	return content[:groups[2]] + shorten(version, content[groups[2]:groups[3]]) + content[groups[3]:]
}

// shorten returns the version without the leading v and with as many numbers as the example.
func shorten(version, example string) string {
	numbers := strings.Split(strings.TrimPrefix(version, "v"), ".")
	return strings.Join(numbers[:min(len(numbers), strings.Count(example, ".")+1)], ".")
}

// stagingVersion returns the version of the modules of a version of Kubernetes: v0.36.4 for v1.36.4.
func stagingVersion(kubernetes string) string {
	return "v0" + strings.TrimPrefix(kubernetes, "v1")
}

// stagingModules returns the modules that are part of Kubernetes.
func stagingModules() ([]string, error) {
	file, err := read("test/landscape/parts/cluster")
	if err != nil {
		return nil, err
	}
	var modules []string
	for _, replace := range file.Replace {
		modules = append(modules, replace.Old.Path)
	}
	return modules, nil
}

// align raises the shared dependencies to their highest version until nothing changes any more.
func align() error {
	for _, dir := range modules {
		if err := command(dir, "go", "mod", "tidy"); err != nil {
			return err
		}
	}
	const rounds = 10
	for range rounds {
		behind, err := misaligned()
		if err != nil || len(behind) == 0 {
			return err
		}
		for dir, edits := range behind {
			fmt.Printf("%s: %s\n", dir, strings.Join(edits, " "))
			if err := edit(dir, edits); err != nil {
				return err
			}
			if err := command(dir, "go", "mod", "tidy"); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("modules still differ after %d rounds; one of them excludes or replaces a dependency of another one", rounds)
}

// misaligned returns the arguments of go mod edit that raise lower versions, by directory.
func misaligned() (map[string][]string, error) {
	files := map[string]*modfile.File{}
	highest := map[string]string{}
	for _, dir := range modules {
		file, err := read(dir)
		if err != nil {
			return nil, err
		}
		files[dir] = file
		for _, require := range file.Require {
			if version := require.Mod.Version; semver.Compare(version, highest[require.Mod.Path]) > 0 {
				highest[require.Mod.Path] = version
			}
		}
	}
	behind := map[string][]string{}
	for dir, file := range files {
		for _, require := range file.Require {
			if path := require.Mod.Path; apart[path] == "" && require.Mod.Version != highest[path] {
				behind[dir] = append(behind[dir], "-require="+path+"@"+highest[path])
			}
		}
	}
	return behind, nil
}

// required returns the version of a module that a go.mod requires.
func required(dir, module string) (string, error) {
	file, err := read(dir)
	if err != nil {
		return "", err
	}
	for _, require := range file.Require {
		if require.Mod.Path == module {
			return require.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s/go.mod does not require %s", dir, module)
}

func read(dir string) (*modfile.File, error) {
	path := filepath.Join(dir, "go.mod")
	content, err := os.ReadFile(path) // #nosec G304 -- a file of this repository.
	if err != nil {
		return nil, err
	}
	return modfile.Parse(path, content, nil)
}

func edit(dir string, edits []string) error {
	if len(edits) == 0 {
		return nil
	}
	return command(dir, "go", append([]string{"mod", "edit"}, edits...)...)
}

func command(dir, name string, args ...string) error {
	command := exec.Command(name, args...) // #nosec G204 -- arguments from above.
	command.Dir, command.Stderr = dir, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s in %s: %w", strings.Join(append([]string{name}, args...), " "), dir, err)
	}
	return nil
}
