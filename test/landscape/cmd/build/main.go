// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command build builds the programs that a landscape needs, or the named ones, and prints the directory of the last one.
// With the argument "check", it prepares the machine for a landscape instead, or exits with code 3 if the machine
// cannot run one. It has few dependencies, so that it is built and shows progress within seconds.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/preflight"
	"github.com/larder-project/larder/test/landscape/progress"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// exitUnsupported means that nothing is broken, but the machine or the user cannot run a landscape.
const exitUnsupported = 3

func run(ctx context.Context, names []string) int {
	if len(names) == 1 && names[0] == "check" {
		return check(ctx)
	}
	if len(names) == 0 {
		names = parts.Needed()
	}
	log, err := openLog()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = log.Close() }()

	paths, err := build(ctx, log, names)
	var failure *parts.BuildError
	switch {
	case err == nil:
		fmt.Println(filepath.Dir(paths[names[len(names)-1]]))
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "Stopped. Compiled packages are kept: run the same command to continue.")
		return 130
	case errors.As(err, &failure):
		fmt.Fprintf(os.Stderr, "Failed to %v\nRemedy: %s. Then run the same command to continue; the complete log is %s\n", err, failure.Remedy(), log.Name())
	default:
		fmt.Fprintf(os.Stderr, "Failed to %v\nThe complete log is %s\n", err, log.Name())
	}
	return 1
}

func check(ctx context.Context) int {
	err := preflight.Check()
	if err == nil {
		err = preflight.Prepare(ctx, progress.New(os.Stderr))
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, preflight.ErrUnsupported):
		fmt.Fprintln(os.Stderr, err)
		return exitUnsupported
	default:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

func build(ctx context.Context, log io.Writer, names []string) (map[string]string, error) {
	repository, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	cache, err := parts.DefaultCache()
	if err != nil {
		return nil, err
	}
	builder := parts.Builder{Repository: repository, Cache: cache, Progress: progress.New(os.Stderr), Log: log}
	return builder.Build(ctx, names...)
}

// maxLog limits the size of the log, to which each build appends.
const maxLog = 4 << 20

func openLog() (*os.File, error) {
	if err := os.MkdirAll("bin", 0o755); err != nil { // #nosec G301 -- programs for all users.
		return nil, err
	}
	// Another build may be writing to it, so it is not truncated.
	log, err := os.OpenFile(filepath.Join("bin", "build.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) // #nosec G302 G304 -- a log for all users.
	if err != nil {
		return nil, err
	}
	if info, statErr := log.Stat(); statErr == nil && info.Size() > maxLog {
		err = log.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(log, "%s\n", time.Now().Format(time.RFC3339))
	}
	return log, err
}
