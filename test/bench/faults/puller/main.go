// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command puller pulls an image with the registry client of a containerd version, as its CRI plugin does, and prints
// how long that took. It keeps nothing.
//
// It is a module of its own, so that the product's requirements do not change with the compared versions.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	docker1 "github.com/containerd/containerd/remotes/docker"
	config1 "github.com/containerd/containerd/remotes/docker/config"
	docker2 "github.com/containerd/containerd/v2/core/remotes/docker"
	config2 "github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/log"
)

// result is the output of the command. A pull may fail after a long time.
type result struct {
	Version string // of containerd
	Seconds float64
	Error   string `json:",omitempty"`
}

func main() {
	major := flag.Int("containerd", 2, "major version of containerd, 1 or 2")
	directory := flag.String("registries", "", "directory with the hosts.toml of registries")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: puller -containerd MAJOR -registries DIRECTORY IMAGE")
		os.Exit(2)
	}
	// Each fallback to the next host is a log line.
	if err := log.SetLevel("error"); err != nil {
		panic(err)
	}
	begun := time.Now()
	err := pullWith(*major, *directory, flag.Arg(0))
	output := result{Version: versionOf(*major), Seconds: time.Since(begun).Seconds()}
	if err != nil {
		output.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(output); err != nil {
		fmt.Fprintln(os.Stderr, "puller:", err)
		os.Exit(1)
	}
}

func pullWith(major int, directory, image string) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	watched := watch(ctx, func() { cancel(errNoProgress) })
	var err error
	switch major {
	case 1:
		err = pull(ctx, docker1.NewResolver(docker1.ResolverOptions{Hosts: config1.ConfigureHosts(ctx, config1.HostOptions{
			HostDir: config1.HostDirFromRoot(directory), UpdateClient: watched.update,
		})}), image)
	case 2:
		err = pull(ctx, docker2.NewResolver(docker2.ResolverOptions{Hosts: config2.ConfigureHosts(ctx, config2.HostOptions{
			HostDir: config2.HostDirFromRoot(directory), UpdateClient: watched.update,
		})}), image)
	default:
		return fmt.Errorf("unknown major version %d", major)
	}
	if cause := context.Cause(ctx); errors.Is(cause, errNoProgress) {
		return cause
	}
	return err
}

// modules are the modules of containerd by major version.
var modules = map[int]string{1: "github.com/containerd/containerd", 2: "github.com/containerd/containerd/v2"}

// versionOf returns the version of containerd that is part of this program.
func versionOf(major int) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == modules[major] {
				return strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return "unknown"
}
