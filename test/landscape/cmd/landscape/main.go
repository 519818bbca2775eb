// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command landscape brings a Gardener landscape up on this machine and takes
// it down again. It is also the first process inside, and plays the parts that
// no real program plays there.
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

// exitUnsupported tells callers that nothing is broken: this machine, or this
// user, cannot have a landscape.
const exitUnsupported = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	// What the client library would log are warnings of admission webhooks, which belong to the owner of a Shoot.
	log.SetLogger(logr.Discard())

	root := &cobra.Command{
		Use:           "landscape",
		Short:         "Run a Gardener landscape of real parts on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(platformCommands()...)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "Stopped. The same command goes on from here; \"make down\" removes what there is.")
	default:
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(exitCode(err)) //nolint:gocritic // There is nothing left to stop.
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
