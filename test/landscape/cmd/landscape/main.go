// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command landscape starts and stops a Gardener landscape on this machine. It is also the first process inside, and
// stands in for components that are not real.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/larder-project/larder/test/landscape/preflight"
)

// exitUnsupported means that nothing is broken, but the machine or the user cannot run a landscape.
const exitUnsupported = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	// The client library logs warnings of admission webhooks, which are for the owner of a Shoot.
	log.SetLogger(logr.Discard())

	root := &cobra.Command{
		Use:           "landscape",
		Short:         "Run a Gardener landscape of real components on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(platformCommands()...)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "Stopped. Run the same command to continue, or \"make down\" to remove the landscape.")
	default:
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(exitCode(err)) //nolint:gocritic // Nothing is left to stop.
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, preflight.ErrUnsupported):
		return exitUnsupported
	default:
		return 1
	}
}
