// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// readyTimeout limits the time until a process is ready.
	readyTimeout = 5 * time.Minute
	// pollInterval is the interval between probes of a starting process.
	pollInterval = 100 * time.Millisecond
	// stopTimeout is the time before a stopping process is killed.
	stopTimeout = 15 * time.Second
	// restartDelay is the pause before a restart.
	restartDelay = time.Second
)

// Supervisor supervises processes.
type Supervisor struct {
	logDir string
	order  []string

	// mu also covers the start of a process and its registration, so that Reap knows every process that ends.
	mu        sync.Mutex
	processes map[string]*process
	running   map[int]*process
}

// New returns a Supervisor of the given processes without starting them.
func New(specs []Spec, logDir string) *Supervisor {
	s := &Supervisor{logDir: logDir, processes: map[string]*process{}, running: map[int]*process{}}
	for _, spec := range specs {
		s.add(spec)
	}
	return s
}

// Add adds a process without starting it, or replaces one that does not run.
func (s *Supervisor) Add(spec Spec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.forget(spec.Name); err != nil {
		return err
	}
	s.add(spec)
	return nil
}

// Remove stops a process and forgets it.
func (s *Supervisor) Remove(ctx context.Context, name string) error {
	if err := s.Stop(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forget(name)
}

// add adds a process. The caller holds the lock, unless the supervisor is new.
func (s *Supervisor) add(spec Spec) {
	s.order = append(s.order, spec.Name)
	s.processes[spec.Name] = &process{spec: spec}
}

// forget removes a process that does not run, if it exists. The caller holds the lock.
func (s *Supervisor) forget(name string) error {
	p, ok := s.processes[name]
	if !ok {
		return nil
	}
	if p.pid != 0 || p.wanted {
		return fmt.Errorf("process %s is running", name)
	}
	s.order = slices.DeleteFunc(s.order, func(other string) bool { return other == name })
	delete(s.processes, name)
	return nil
}

// Start starts a process unless it runs, and waits until it is ready. If it ends or takes too long, the error has the
// last lines of its log.
func (s *Supervisor) Start(ctx context.Context, name string) error {
	s.mu.Lock()
	p, err := s.find(name)
	if err == nil && p.pid == 0 {
		p.wanted = true
		err = s.launch(p)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.awaitReady(ctx, p); err != nil {
		return fmt.Errorf("%s %w; the end of %s:\n%s", name, err, p.logFile(s.logDir), tail(p.logFile(s.logDir)))
	}
	return nil
}

// Stop stops a process and waits for its end.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	s.mu.Lock()
	p, err := s.find(name)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	p.wanted = false
	gone := p.gone
	if p.pid == 0 {
		s.mu.Unlock()
		return nil
	}
	err = syscall.Kill(p.pid, syscall.SIGTERM)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}

	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(stopTimeout):
	}
	s.mu.Lock()
	if p.pid != 0 {
		err = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	<-gone
	return nil
}

// Status returns the state of all processes in the order of their definition.
func (s *Supervisor) Status(ctx context.Context) []Status {
	s.mu.Lock()
	statuses := make([]Status, len(s.order))
	targets := make([]string, len(s.order))
	for i, name := range s.order {
		p := s.processes[name]
		statuses[i], targets[i] = p.status(), p.spec.Ready
	}
	s.mu.Unlock()

	var wait sync.WaitGroup
	for i := range statuses {
		if statuses[i].State != Ready {
			continue
		}
		wait.Go(func() {
			if err := probe(ctx, targets[i]); err != nil {
				statuses[i].State = Unready
			}
		})
	}
	wait.Wait()
	return statuses
}

// awaitReady waits for the first response of the process.
func (s *Supervisor) awaitReady(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errors.New("took too long"))
	defer cancel()
	for {
		failure := probe(ctx, p.spec.Ready)

		s.mu.Lock()
		pid, exit := p.pid, p.lastExit
		if failure == nil && pid != 0 {
			p.ready = true
		}
		s.mu.Unlock()

		switch {
		case pid == 0:
			return fmt.Errorf("ended (%s)", exit)
		case failure == nil:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("is not ready (%w): %w", context.Cause(ctx), failure)
		case <-time.After(pollInterval):
		}
	}
}

// find returns a process by name. The caller holds the lock.
func (s *Supervisor) find(name string) (*process, error) {
	p, ok := s.processes[name]
	if !ok {
		return nil, fmt.Errorf("unknown process %q", name)
	}
	return p, nil
}
