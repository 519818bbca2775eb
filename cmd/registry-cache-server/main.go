// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command registry-cache-server is a pull-through cache for one upstream registry. It reads the configuration file of a
// stock Distribution registry in proxy mode and can take its place. The command pull-through needs no file.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"k8s.io/component-base/version"

	"github.com/larder-project/larder/pkg/cacheserver"
)

// ballast counts as live memory, so that the garbage collector does not run for every few megabytes of a small heap. It
// takes none: nobody touches it.
var ballast = make([]byte, 8<<20)

func main() {
	defer runtime.KeepAlive(ballast)
	if err := newCommand().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "registry-cache-server:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	command := &cobra.Command{
		Use:           "registry-cache-server",
		Short:         "A pull-through cache for one upstream registry",
		Version:       version.Get().GitVersion,
		SilenceErrors: true,
	}
	command.AddCommand(&cobra.Command{
		Use:   "serve CONFIG",
		Short: "Serve the cache that a configuration file describes",
		Long: "Serve the cache that a configuration file describes: config.yml of Distribution, with a proxy section.\n" +
			"REGISTRY_* variables of the environment override its fields. Keep credentials out of them, they are read as YAML.",
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			command.SilenceUsage = true // The command line is right; what fails from here on is not about its use.
			return cacheserver.Run(command.Context(), args[0])
		},
	}, newPullThroughCommand())
	return command
}
