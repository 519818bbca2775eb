// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package sandbox isolates a landscape in namespaces. All its processes descend from the first process of its process
// namespace: when that ends, the kernel ends the others and removes the mounts, the links and the firewall rules. Only
// a control group for the pods and a directory are outside.
package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/cgroup"
)

// Start creates the namespaces and starts the first process inside. It returns when that process accepts requests.
func Start(ctx context.Context, l *landscape.Landscape) error {
	hierarchies, err := cgroup.Mounted()
	if err != nil {
		return err
	}
	if err := hierarchies.Create(l.ID()); err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(l.LogDir(), landscape.InitRole+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = logFile.Close() }()

	command := exec.Command(l.Program(), landscape.InitRole) // #nosec G204 -- our own program.
	command.Env = l.Environment()
	command.Dir = l.Repository()
	command.Stdout, command.Stderr = logFile, logFile
	command.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("create the namespaces: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()

	if err := connect(l, command.Process.Pid); err != nil {
		return fmt.Errorf("connect the namespaces: %w", err)
	}
	return awaitControl(ctx, l, ended, logFile.Name())
}

func awaitControl(ctx context.Context, l *landscape.Landscape, ended <-chan error, logFile string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := l.Processes(ctx)
		if err == nil {
			return nil
		}
		select {
		case exit := <-ended:
			content, _ := os.ReadFile(logFile)
			return fmt.Errorf("first process ended (%w):\n%s", exit, content)
		case <-ctx.Done():
			return fmt.Errorf("wait for the first process: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
