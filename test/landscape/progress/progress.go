// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package progress prints what the landscape is doing and for how long. Steps
// may run at the same time: every line names its step and stands alone.
package progress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// quiet is how long a step may run before a line says that it has begun;
	// a shorter step gets its final line only.
	quiet = time.Second
	// reminder is the time between two lines of a step that takes long.
	reminder = 30 * time.Second
)

// Log writes lines of progress. It is safe for concurrent use.
type Log struct {
	mu     sync.Mutex
	writer io.Writer
}

// New returns a Log that writes to w.
func New(w io.Writer) *Log {
	return &Log{writer: w}
}

// Start begins a step. The returned function ends it and takes its outcome; it
// hands the error back, so that a step can end with "return done(err)".
func (l *Log) Start(what string) func(error) error {
	begin := time.Now()
	end := make(chan struct{})
	go l.remind(what, begin, end)

	return func(err error) error {
		close(end)
		switch {
		case err == nil:
			l.Note("done    %s (%s)", what, seconds(begin))
		case errors.Is(err, context.Canceled):
			l.Note("stopped %s (%s)", what, seconds(begin))
		default:
			l.Note("failed  %s (%s)", what, seconds(begin))
		}
		return err
	}
}

// Note writes a line that is not about a step.
func (l *Log) Note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.writer, format+"\n", args...)
}

func (l *Log) remind(what string, begin time.Time, end <-chan struct{}) {
	select {
	case <-end:
		return
	case <-time.After(quiet):
		l.Note("begin   %s", what)
	}

	ticker := time.NewTicker(reminder)
	defer ticker.Stop()
	for {
		select {
		case <-end:
			return
		case <-ticker.C:
			l.Note("running %s (%s)", what, seconds(begin))
		}
	}
}

func seconds(since time.Time) string {
	return fmt.Sprintf("%.1f s", time.Since(since).Seconds())
}
