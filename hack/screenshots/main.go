// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command screenshots runs a cache of a simulated registry, pulls through it, and takes screenshots of its status page.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

// shots are the screenshots: the page on a desktop and on a phone.
var shots = []screenshot{
	{file: "status-page.png", width: 1160, height: 1700, scale: 1},
	{file: "status-page-dark.png", width: 1160, height: 1700, scale: 1, dark: true},
	{file: "status-page-phone.png", width: 390, height: 1180, scale: 1.5},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: screenshots DIRECTORY")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, directory string) error {
	work, err := os.MkdirTemp("", "screenshots")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	s := &scene{directory: work}
	defer s.close()
	if err := s.play(ctx); err != nil {
		return err
	}
	for _, shot := range shots {
		path := filepath.Join(directory, shot.file)
		if err := shot.take(ctx, s.url(), path, work); err != nil {
			return fmt.Errorf("take %s: %w", path, err)
		}
	}
	return nil
}
