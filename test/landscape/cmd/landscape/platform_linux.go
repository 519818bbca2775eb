// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cluster"
	"github.com/larder-project/larder/test/landscape/preflight"
	"github.com/larder-project/larder/test/landscape/progress"
	"github.com/larder-project/larder/test/landscape/sandbox"
	"github.com/larder-project/larder/test/landscape/supervisor"
)

func platformCommands() []*cobra.Command {
	return append(roleCommands(),
		&cobra.Command{Use: "up", Short: "Start the landscape or update it", Args: cobra.NoArgs, RunE: alone(up)},
		&cobra.Command{Use: "down", Short: "Stop and remove the landscape", Args: cobra.NoArgs, RunE: alone(down)},
		&cobra.Command{Use: "status", Short: "Show the processes and the node", Args: cobra.NoArgs, RunE: status},
	)
}

// alone makes an operation exclusive among all operations on the same landscape.
func alone(operation func(context.Context, *landscape.Landscape, *progress.Log) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := preflight.Check(); err != nil {
			return err
		}
		l, err := landscape.Open()
		if err != nil {
			return err
		}
		// The kernel frees the name with the end of the process.
		lock, err := net.Listen("unix", "@"+l.ID())
		if err != nil {
			return fmt.Errorf("another process is starting or stopping the landscape in %s: %w", l.Dir(), err)
		}
		defer func() { _ = lock.Close() }()
		return operation(cmd.Context(), l, progress.New(cmd.OutOrStdout()))
	}
}

func down(ctx context.Context, l *landscape.Landscape, log *progress.Log) error {
	removed, err := sandbox.Remove(ctx, l)
	for _, what := range removed {
		log.Note("Removed %s", what)
	}
	if err == nil {
		log.Note("Nothing is left of the landscape in %s", l.Dir())
	}
	return err
}

func status(cmd *cobra.Command, _ []string) error {
	if err := preflight.Check(); err != nil {
		return err
	}
	l, err := landscape.Open()
	if err != nil {
		return err
	}
	processes, err := l.Processes(cmd.Context())
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(table, "PROCESS\tSTATE\tAGE\tRESTARTS\tLAST EXIT")
	var unhealthy []error
	for _, process := range processes {
		age := "-"
		if process.PID != 0 {
			age = time.Since(process.Since).Round(time.Second).String()
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", process.Name, process.State, age, process.Restarts, process.LastExit)
		if process.State != supervisor.Ready {
			unhealthy = append(unhealthy, fmt.Errorf("%s is %s", process.Name, process.State))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}

	c, err := cluster.NewClient(l)
	if err != nil {
		return err
	}
	if err := cluster.NodeState(cmd.Context(), c); err != nil {
		unhealthy = append(unhealthy, err)
	} else {
		fmt.Printf("\nThe node is ready. KUBECONFIG=%s\n", l.AdminKubeconfig())
	}
	return errors.Join(unhealthy...)
}
