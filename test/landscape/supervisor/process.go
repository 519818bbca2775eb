// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a supervised process, guarded by the supervisor's lock.
type process struct {
	spec Spec
	// wanted means that the process should run.
	wanted bool
	// pid is 0 without a process.
	pid int
	// gone is closed at the end of the process.
	gone chan struct{}
	// ready means that the process has been ready since its start.
	ready    bool
	since    time.Time
	restarts int
	lastExit string
}

func (p *process) logFile(dir string) string {
	return filepath.Join(dir, p.spec.Name+".log")
}

func (p *process) status() Status {
	status := Status{Name: p.spec.Name, PID: p.pid, Since: p.since, Restarts: p.restarts, LastExit: p.lastExit}
	switch {
	case p.pid == 0 && p.wanted:
		status.State = Failed
	case p.pid == 0:
		status.State = Stopped
	case p.ready:
		status.State = Ready
	default:
		status.State = Starting
	}
	return status
}

// launch starts the process. The caller holds the lock.
func (s *Supervisor) launch(p *process) error {
	log, err := os.OpenFile(p.logFile(s.logDir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()

	command := exec.Command(p.spec.Path, p.spec.Args...) // #nosec G204 -- its purpose.
	command.Env = p.spec.Env
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	p.pid, p.gone, p.ready, p.since = command.Process.Pid, make(chan struct{}), false, time.Now()
	s.running[p.pid] = p
	// Reap waits for the process, not through this handle.
	return command.Process.Release()
}

// ended records the end of a process and restarts it if it had been ready and was not stopped. The caller holds the
// lock.
func (s *Supervisor) ended(pid int, exit syscall.WaitStatus) {
	p, ok := s.running[pid]
	if !ok {
		return // An orphan that the first process inherited.
	}
	delete(s.running, pid)
	wasReady := p.ready
	p.pid, p.ready, p.lastExit = 0, false, describe(exit)
	close(p.gone)
	if p.wanted && wasReady {
		time.AfterFunc(restartDelay, func() { s.relaunch(p) })
	}
}

func describe(exit syscall.WaitStatus) string {
	if exit.Signaled() {
		return "signal: " + exit.Signal().String()
	}
	return fmt.Sprintf("exit code %d", exit.ExitStatus())
}
