// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// execWaitDelay bounds how long the children of a killed helper may keep its output open.
const execWaitDelay = time.Second

// program is a client.Program that ends with a context, together with all processes that it started.
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

// boundedBuffer holds as much as a credential file may. It fails further writes, so that a helper that prints more
// ends.
type boundedBuffer struct{ buffer bytes.Buffer }

// Write implements io.Writer.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > maxFile {
		return 0, errors.New("too much output")
	}
	return b.buffer.Write(p)
}
