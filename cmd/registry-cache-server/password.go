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

// maxPassword bounds the size of a password. Service account keys take a few KiB.
const maxPassword = 64 << 10

// readPassword reads a password from a file, without the line end that editors leave.
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

// terminal asks a person.
type terminal struct {
	present func() bool
	ask     func(ctx context.Context, question string) (string, error)
}

// standardTerminal is the terminal at standard input.
func standardTerminal() terminal {
	return terminal{
		present: func() bool { return term.IsTerminal(int(os.Stdin.Fd())) },
		ask:     askPassword,
	}
}

// askPassword asks for a password without echoing it. It restores the echo also when it is interrupted.
func askPassword(ctx context.Context, question string) (string, error) {
	input := int(os.Stdin.Fd())
	before, err := term.GetState(input)
	if err != nil {
		return "", fmt.Errorf("asking for the password: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprint(os.Stderr, question)
	defer fmt.Fprintln(os.Stderr)

	type answer struct {
		password []byte
		err      error
	}
	answered := make(chan answer, 1)
	go func() {
		password, err := term.ReadPassword(input)
		answered <- answer{password, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return "", fmt.Errorf("asking for the password: %w", a.err)
		}
		return string(a.password), nil
	case <-ctx.Done():
		return "", errors.Join(errors.New("the question for the password was interrupted"), term.Restore(input, before))
	}
}
