// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"syscall"
)

// Reap records the end of every child until ctx is done, including inherited orphans. Nothing else may wait for
// children.
func (s *Supervisor) Reap(ctx context.Context) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	defer signal.Stop(signals)
	for {
		s.reapEnded()
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
	}
}

func (s *Supervisor) reapEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var exit syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &exit, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil || pid <= 0:
			return
		}
		s.ended(pid, exit)
	}
}

// relaunch restarts a process unless it was stopped or started meanwhile.
func (s *Supervisor) relaunch(p *process) {
	s.mu.Lock()
	if !p.wanted || p.pid != 0 {
		s.mu.Unlock()
		return
	}
	p.restarts++
	err := s.launch(p)
	s.mu.Unlock()
	if err == nil {
		err = s.awaitReady(context.Background(), p)
	}
	if err != nil {
		log.Printf("restart %s: %v", p.spec.Name, err)
	}
}
