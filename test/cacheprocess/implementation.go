// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheprocess

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Implementation is a program that serves a pull-through cache with the arguments "serve <configuration file>".
type Implementation struct {
	// Name is Stock or Ours.
	Name   string
	Binary string
	// Race means that it is built with the race detector and ends at a race.
	Race bool
}

// The names of the implementations.
const (
	Stock = "stock"
	Ours  = "ours"
)

// source is the origin of the program of an implementation.
type source struct {
	variable string // environment variable with the path of an existing binary
	module   string // module directory, relative to the repository
	pkg      string
}

var sources = map[string]source{
	Stock: {variable: "LARDER_STOCK_REGISTRY", module: "test/bench/stock", pkg: "github.com/distribution/distribution/v3/cmd/registry"},
	Ours:  {variable: "LARDER_CACHE_SERVER", module: ".", pkg: "./cmd/registry-cache-server"},
}

// Build builds the implementation of the given name into the repository's dev/bin, unless LARDER_STOCK_REGISTRY or
// LARDER_CACHE_SERVER names an existing binary.
func Build(ctx context.Context, name string) (Implementation, error) {
	return build(ctx, name, false)
}

// BuildRace builds our implementation with the race detector, which needs several times the memory.
func BuildRace(ctx context.Context) (Implementation, error) { return build(ctx, Ours, true) }

func build(ctx context.Context, name string, race bool) (Implementation, error) {
	from, ok := sources[name]
	if !ok {
		return Implementation{}, fmt.Errorf("unknown implementation %q", name)
	}
	if binary := os.Getenv(from.variable); binary != "" {
		return Implementation{Name: name, Binary: binary}, nil
	}
	root, err := repositoryRoot(ctx)
	if err != nil {
		return Implementation{}, err
	}
	binary := filepath.Join(root, "dev", "bin", name+"-registry-cache")
	arguments, cgo := []string{"build", "-trimpath"}, "0"
	if race {
		binary, arguments, cgo = binary+"-race", append(arguments, "-race"), "1"
	}
	command := exec.CommandContext(ctx, "go", append(arguments, "-o", binary, from.pkg)...)
	command.Dir = filepath.Join(root, from.module)
	command.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if output, err := command.CombinedOutput(); err != nil {
		return Implementation{}, fmt.Errorf("build %s: %w\n%s", name, err, output)
	}
	return Implementation{Name: name, Binary: binary, Race: race}, nil
}

func repositoryRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(output))), nil
}
