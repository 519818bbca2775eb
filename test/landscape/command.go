// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package landscape

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/larder-project/larder/test/landscape/supervisor"
)

// ControlSocket is the control socket of the first process, inside the namespaces.
const ControlSocket = "/run/landscape.sock"

// SearchPath is the PATH of every process inside the namespaces.
func (l *Landscape) SearchPath() string {
	return l.BinDir() + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// Environment is the environment of every process inside the namespaces.
func (l *Landscape) Environment() []string {
	return []string{
		"PATH=" + l.SearchPath(),
		"HOME=/root",
		"SSL_CERT_FILE=" + l.CAFile(),
		DirVariable + "=" + l.dir,
		"CONTAINERD_ADDRESS=" + ContainerdSocket,
		"CONTAINERD_NAMESPACE=k8s.io",
	}
}

// Command returns a command that runs inside the namespaces, with the admin kubeconfig and containerd's address in its
// environment. It ends with ctx.
func (l *Landscape) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	pid, err := l.FirstProcess()
	if err != nil {
		return &exec.Cmd{Path: name, Err: err}
	}
	args = append([]string{"--target", strconv.Itoa(pid), "--mount", "--net", "--pid", "--uts", "--", name}, args...)
	command := exec.CommandContext(ctx, "nsenter", args...) // #nosec G204 -- its purpose.
	command.Env = append(l.Environment(), "KUBECONFIG="+l.AdminKubeconfig())
	// nsenter stays outside and starts a child inside; both must end.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	return command
}

// Control returns a client of the first process.
func (l *Landscape) Control() (*supervisor.Client, error) {
	pid, err := l.FirstProcess()
	if err != nil {
		return nil, err
	}
	// The path through the root of the process is short for any directory of the landscape: a socket address holds 107
	// bytes.
	return supervisor.NewClient(fmt.Sprintf("/proc/%d/root%s", pid, ControlSocket)), nil
}

// StopProcess stops a supervised process until StartProcess.
func (l *Landscape) StopProcess(ctx context.Context, name string) error {
	control, err := l.Control()
	if err != nil {
		return err
	}
	return control.Stop(ctx, name)
}

// StartProcess starts a supervised process and waits until it is ready.
func (l *Landscape) StartProcess(ctx context.Context, name string) error {
	control, err := l.Control()
	if err != nil {
		return err
	}
	return control.Start(ctx, name)
}

// AddProcess adds a process that the landscape does not need, without starting it.
func (l *Landscape) AddProcess(ctx context.Context, spec supervisor.Spec) error {
	control, err := l.Control()
	if err != nil {
		return err
	}
	return control.Add(ctx, spec)
}

// RemoveProcess stops a process and forgets it.
func (l *Landscape) RemoveProcess(ctx context.Context, name string) error {
	control, err := l.Control()
	if err != nil {
		return err
	}
	return control.Remove(ctx, name)
}

// Processes returns the state of each supervised process.
func (l *Landscape) Processes(ctx context.Context) ([]supervisor.Status, error) {
	control, err := l.Control()
	if err != nil {
		return nil, err
	}
	return control.Status(ctx)
}

// Exists reports whether the landscape has left anything on disk.
func (l *Landscape) Exists() (bool, error) {
	_, err := os.Stat(l.dir)
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}
