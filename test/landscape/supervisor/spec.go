// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package supervisor supervises processes as the first process of a process namespace: it starts and stops them, writes
// their output to files, knows when they are ready, restarts them after a failure and reaps orphans.
package supervisor

import "time"

// Spec is a process to supervise.
type Spec struct {
	// Name is unique; it is also the name of the log.
	Name string `json:"name"`
	// Path is the program, and Args are its arguments.
	Path string   `json:"path"`
	Args []string `json:"args,omitempty"`
	// Env is the complete environment.
	Env []string `json:"env,omitempty"`
	// Ready is a URL that shows whether the process is ready: http and https respond with status 200, tcp and unix
	// accept a connection. A process without it is ready at once.
	Ready string `json:"ready,omitempty"`
}

// State is a state in the life of a process.
type State string

// The states of a process.
const (
	// Stopped is a process that was never started, or was stopped.
	Stopped State = "stopped"
	// Starting is a process that has not been ready yet.
	Starting State = "starting"
	// Ready is a process that responds.
	Ready State = "ready"
	// Unready is a process that was ready and does not respond now.
	Unready State = "unready"
	// Failed is a process that ended without being stopped.
	Failed State = "failed"
)

// Status is the state of a process.
type Status struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// PID is the process ID inside of the namespace, 0 without a process.
	PID int `json:"pid,omitempty"`
	// Since is the start of the process.
	Since time.Time `json:"since,omitzero"`
	// Restarts counts the restarts after failures.
	Restarts int `json:"restarts,omitempty"`
	// LastExit is the result of the last end.
	LastExit string `json:"lastExit,omitempty"`
}
