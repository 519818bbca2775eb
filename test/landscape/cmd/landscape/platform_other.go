// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"github.com/spf13/cobra"

	"github.com/larder-project/larder/test/landscape/preflight"
)

// platformCommands rejects every command on other platforms.
func platformCommands() []*cobra.Command {
	var commands []*cobra.Command
	for _, name := range []string{"up", "down", "status"} {
		commands = append(commands, &cobra.Command{
			Use:  name,
			RunE: func(*cobra.Command, []string) error { return preflight.Check() },
		})
	}
	return commands
}
