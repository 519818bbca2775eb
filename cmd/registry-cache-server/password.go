// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// maxPassword limits the size of a password. Service account keys have a few KiB.
const maxPassword = 64 << 10

// readPassword reads a password from a file and removes the newline that editors append.
func readPassword(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxPassword+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("--password-file: %w", err)
	case len(content) > maxPassword:
		return "", fmt.Errorf("--password-file: %s has more than %d bytes", path, maxPassword)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r"), nil
}

// terminal asks the user for a password.
type terminal struct {
	present func() bool
	ask     func(ctx context.Context, question string) (string, error)
}

// standardTerminal returns the terminal at standard input.
func standardTerminal() terminal {
	return terminal{
		present: func() bool { return term.IsTerminal(int(os.Stdin.Fd())) },
		ask:     askPassword,
	}
}

// askPassword asks for a password without echoing it. It restores the echo even if it is interrupted.
func askPassword(ctx context.Context, question string) (string, error) {
	input := int(os.Stdin.Fd())
	before, err := term.GetState(input)
	if err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprint(os.Stderr, question)
	defer fmt.Fprintln(os.Stderr)

	type result struct {
		password []byte
		err      error
	}
	read := make(chan result, 1)
	go func() {
		password, err := term.ReadPassword(input)
		read <- result{password, err}
	}()
	select {
	case r := <-read:
		if r.err != nil {
			return "", fmt.Errorf("ask for the password: %w", r.err)
		}
		return string(r.password), nil
	case <-ctx.Done():
		return "", errors.Join(errors.New("the password prompt was interrupted"), term.Restore(input, before))
	}
}
