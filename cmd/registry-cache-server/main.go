// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command registry-cache-server is a pull-through cache of one upstream registry. It reads the configuration file of a
// stock Distribution registry in proxy mode and can replace it. The subcommand pull-through needs no file.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/component-base/version"

	"github.com/larder-project/larder/pkg/cacheserver"
)

// gcPercent replaces Go's default of 100. The live heap is usually a few MiB, and by default the garbage collector
// would run each time that it has doubled.
const gcPercent = 250

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := newCommand().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "registry-cache-server:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	command := &cobra.Command{
		Use:           "registry-cache-server",
		Short:         "A pull-through cache of one upstream registry",
		Version:       version.Get().GitVersion,
		SilenceErrors: true,
	}
	command.AddCommand(&cobra.Command{
		Use:   "serve CONFIG",
		Short: "Serve the cache of a configuration file",
		Long: "Serve the cache of a configuration file, a config.yml of Distribution with a proxy section.\n" +
			"REGISTRY_* environment variables override its fields. Do not put credentials in them: they are parsed as YAML.",
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			command.SilenceUsage = true // The arguments are valid; don't print usage for runtime errors.
			return cacheserver.Run(command.Context(), args[0])
		},
	}, newPullThroughCommand())
	return command
}
