// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package supervisor runs processes as the first process of a process
// namespace must: it starts and stops them, writes their output to files,
// knows when they are ready, restarts what ends unasked and buries orphans.
package supervisor

import "time"

// Spec is a process to supervise.
type Spec struct {
	// Name is unique; the process logs to a file of that name.
	Name string `json:"name"`
	// Path is the program, and Args are its arguments.
	Path string   `json:"path"`
	Args []string `json:"args,omitempty"`
	// Env is the whole environment.
	Env []string `json:"env,omitempty"`
	// Ready is a URL that tells when the process is ready: http and https
	// answer with status 200, tcp and unix accept a connection. A process
	// without it is ready at once.
	Ready string `json:"ready,omitempty"`
}

// State is where a process is in its life.
type State string

// The states of a process.
const (
	// Stopped is a process that was not started, or was stopped on purpose.
	Stopped State = "stopped"
	// Starting is a process that has not been ready yet.
	Starting State = "starting"
	// Ready is a process that answers.
	Ready State = "ready"
	// Unready is a process that was ready and does not answer now.
	Unready State = "unready"
	// Failed is a process that ended unasked.
	Failed State = "failed"
)

// Status tells the state of a process.
type Status struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// PID is the process's number inside the namespace, 0 without a process.
	PID int `json:"pid,omitempty"`
	// Since is when the process started.
	Since time.Time `json:"since,omitzero"`
	// Restarts counts how often it ended unasked and was started again.
	Restarts int `json:"restarts,omitempty"`
	// LastExit tells how it ended the last time.
	LastExit string `json:"lastExit,omitempty"`
}
