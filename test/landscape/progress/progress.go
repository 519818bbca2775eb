// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package progress shows the progress of the landscape's steps. On a terminal, the last line moves; elsewhere, long
// steps write a line at intervals. Steps may run concurrently: each line names its step.
package progress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	// quiet is the time before a step is mentioned; a shorter step has only its final line.
	quiet = time.Second
	// reminder is the interval between the lines of a long step without a moving line.
	reminder = 30 * time.Second
	// refresh is the interval between updates of the moving line.
	refresh = 200 * time.Millisecond
)

// Log writes lines of progress. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	writer  io.Writer
	line    *line
	running []*Step
}

// New returns a Log that writes to w. If w is a terminal, running steps share one moving line.
func New(w io.Writer) *Log {
	return &Log{writer: w, line: newLine(w)}
}

// Step is a running step.
type Step struct {
	log   *Log
	what  string
	begin time.Time
	end   chan struct{}
	// detail is the current activity of the step.
	detail string
}

// Begin begins a step.
func (l *Log) Begin(what string) *Step {
	step := &Step{log: l, what: what, begin: time.Now(), end: make(chan struct{})}
	l.mu.Lock()
	l.running = append(l.running, step)
	l.mu.Unlock()
	go step.remind()
	return step
}

// Start begins a step without details and returns the function that ends it.
func (l *Log) Start(what string) func(error) error {
	return l.Begin(what).Done
}

// Update sets the current activity of the step.
func (s *Step) Update(format string, args ...any) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.detail = fmt.Sprintf(format, args...)
}

// Done ends the step with its result. It returns the error, as in "return step.Done(err)".
func (s *Step) Done(err error) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	close(s.end)
	s.log.running = slices.DeleteFunc(s.log.running, func(other *Step) bool { return other == s })
	switch {
	case err == nil:
		s.log.print("done    %s (%s)", s.what, elapsed(s.begin))
	case errors.Is(err, context.Canceled):
		s.log.print("stopped %s (%s)", s.what, elapsed(s.begin))
	default:
		s.log.print("failed  %s (%s)", s.what, elapsed(s.begin))
	}
	return err
}

// Note writes a line about something other than a step.
func (l *Log) Note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.print(format, args...)
}

// print writes a permanent line. The caller holds the lock.
func (l *Log) print(format string, args ...any) {
	l.line.clear()
	_, _ = fmt.Fprintf(l.writer, format+"\n", args...)
	l.redraw()
}

// redraw shows the oldest running step in the moving line. The caller holds the lock.
func (l *Log) redraw() {
	if len(l.running) == 0 {
		return
	}
	oldest := l.running[0]
	if time.Since(oldest.begin) < quiet {
		return
	}
	text := oldest.String()
	if others := len(l.running) - 1; others > 0 {
		text = fmt.Sprintf("%s  (+%d)", text, others)
	}
	l.line.draw(text)
}

// String returns the step, its age and its current activity.
func (s *Step) String() string {
	text := fmt.Sprintf("%s  %s", elapsed(s.begin), s.what)
	if s.detail != "" {
		text += ": " + s.detail
	}
	return text
}

// remind shows the step until it ends.
func (s *Step) remind() {
	if !s.wait(quiet) {
		return
	}
	if s.log.line != nil {
		for s.show(s.log.redraw) && s.wait(refresh) {
		}
		return
	}
	if !s.show(func() { s.log.print("begin   %s", s.what) }) {
		return
	}
	for s.wait(reminder) {
		s.show(func() {
			if s.detail == "" {
				s.log.print("running %s (%s)", s.what, elapsed(s.begin))
			} else {
				s.log.print("running %s (%s): %s", s.what, elapsed(s.begin), s.detail)
			}
		})
	}
}

// show calls the function under the lock unless the step has ended, and reports whether it did.
func (s *Step) show(function func()) bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	select {
	case <-s.end:
		return false
	default:
		function()
		return true
	}
}

// wait waits and reports whether the step is still running.
func (s *Step) wait(d time.Duration) bool {
	select {
	case <-s.end:
		return false
	case <-time.After(d):
		return true
	}
}

func elapsed(since time.Time) string {
	d := time.Since(since)
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d:%02d min", int(d.Minutes()), int(d.Seconds())%60)
}
