// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// DefaultExecTimeout is how long a credential helper may take: longer than most token services do, and shorter than
	// clients wait.
	DefaultExecTimeout = 10 * time.Second
	// execWaitDelay is how long what a killed helper left behind may keep its output open.
	execWaitDelay = time.Second
	// renewInterval bounds how often a helper is asked again because the upstream refuses what it gave.
	renewInterval = 30 * time.Second
)

// Exec asks a docker credential helper, as the exec section of Distribution's proxy does.
type Exec struct {
	Command string
	Host    string
	// Lifetime is how long an answer is used. Nil means for ever, zero asks each time.
	Lifetime *time.Duration
	// Timeout bounds one run of the command.
	Timeout time.Duration
	Log     logrus.FieldLogger

	mu sync.Mutex
	// last and err are the answer of a run that ended at answered.
	last     credentials.Credential
	err      error
	answered time.Time
	expires  time.Time
	renewed  time.Time
}

// For implements upstream.Credentials. A credential whose lifetime is over is not used any longer, also when there is no
// other: nobody knows what it is good for.
func (e *Exec) For(ctx context.Context, _ string) (string, credentials.Credential, error) {
	asked := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	valid := e.err == nil && !e.answered.IsZero() && (e.Lifetime == nil || asked.Before(e.expires))
	// Who waited for a run takes its answer, whatever it is: runs one after the other would add up their timeouts.
	shared := e.answered.After(asked)
	if !valid && !shared {
		started := time.Now()
		c, err := e.run(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return "", credentials.Credential{}, context.Cause(ctx)
		case err != nil:
			e.Log.WithError(err).Error("The credential command failed")
		}
		e.keep(c, err, started)
	}
	return "", e.last, e.err
}

// Renew implements upstream.Renewer. What the upstream refuses may have ended, or have been replaced, before its lifetime, so
// the helper is asked again, now and then. If it has nothing else to say, its last answer stays in use.
func (e *Exec) Renew(ctx context.Context, refused credentials.Credential) (credentials.Credential, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	started := time.Now()
	if e.err == nil && e.last == refused && (e.renewed.IsZero() || started.Sub(e.renewed) >= renewInterval) {
		e.renewed = started
		c, err := e.run(ctx)
		switch {
		case err == nil:
			e.keep(c, nil, started)
		case ctx.Err() == nil:
			e.Log.WithError(err).Error("The credential command failed")
		}
	}
	return e.last, e.err == nil && e.last != refused
}

// keep keeps the outcome of a run. The caller holds the lock.
func (e *Exec) keep(c credentials.Credential, err error, started time.Time) {
	e.last, e.err, e.answered = c, err, time.Now()
	if e.Lifetime != nil {
		e.expires = started.Add(*e.Lifetime)
	}
}

// run runs the command once. Nothing shows what the command said, which may be a secret: on its standard error, too.
func (e *Exec) run(ctx context.Context) (credentials.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	answer, err := client.Get(func(args ...string) client.Program {
		return newProgram(ctx, e.Command, args...)
	}, e.Host)
	switch {
	case err != nil && ctx.Err() != nil:
		return credentials.Credential{}, errors.New("the credential command did not end in time")
	case err != nil:
		return credentials.Credential{}, fmt.Errorf("the credential command gave no credential; to see why, run: echo %s | %s get", e.Host, e.Command)
	}
	c := credentials.Credential{Username: answer.Username, Password: answer.Secret}
	return c, c.Validate()
}

// program is a run of a command that ends with a context, together with all processes that it started.
type program struct{ cmd *exec.Cmd }

func newProgram(ctx context.Context, command string, args ...string) program {
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = execWaitDelay
	return program{cmd: cmd}
}

// Input implements client.Program.
func (p program) Input(in io.Reader) { p.cmd.Stdin = in }

// Output implements client.Program.
func (p program) Output() ([]byte, error) {
	var out boundedBuffer
	p.cmd.Stdout = &out
	err := p.cmd.Run()
	return out.buffer.Bytes(), err
}

// boundedBuffer takes as much as a credential file may hold. A command that writes more finds its output closed.
type boundedBuffer struct{ buffer bytes.Buffer }

// Write implements io.Writer.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > maxFile {
		return 0, errors.New("too much output")
	}
	return b.buffer.Write(p)
}
