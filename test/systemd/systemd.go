// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package systemd runs services that gardener-node-agent writes below a directory, like systemd on a node.
package systemd

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	fakedbus "github.com/gardener/gardener/pkg/nodeagent/dbus/fake"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
)

const (
	unitsDirectory = "etc/systemd/system"
	// enabledDirectory has a link for each service that is enabled.
	enabledDirectory = unitsDirectory + "/multi-user.target.wants"
	// programsDirectory has the programs of systemd.
	programsDirectory = "run/systemd/programs"
)

// DBus starts and stops services whose programs are below its root. For all others, and for everything else, it is
// Gardener's fake.
type DBus struct {
	*fakedbus.DBus
	root        string
	environment []string
	output      io.Writer

	mutex   sync.Mutex
	running map[string]*process
}

// New returns a systemd for the files below a root. It passes additional environment variables to all programs.
func New(root string, output io.Writer, environment ...string) *DBus {
	path := filepath.Join(root, programsDirectory) + string(filepath.ListSeparator) + os.Getenv("PATH")
	environment = append(append(os.Environ(), "PATH="+path), environment...)
	return &DBus{DBus: fakedbus.New(), root: root, output: output, environment: environment, running: map[string]*process{}}
}

// Enable implements Gardener's interface.
func (d *DBus) Enable(ctx context.Context, names ...string) error {
	if err := os.MkdirAll(filepath.Join(d.root, enabledDirectory), 0o750); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Symlink("../"+name, d.enabled(name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return d.DBus.Enable(ctx, names...)
}

// Disable implements Gardener's interface.
func (d *DBus) Disable(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := os.Remove(d.enabled(name)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return d.DBus.Disable(ctx, names...)
}

func (d *DBus) enabled(name string) string {
	return filepath.Join(d.root, enabledDirectory, name)
}

// installSystemctl installs a systemctl that reports whether a service is enabled.
func (d *DBus) installSystemctl() error {
	script := "#!/bin/bash\n[[ $1 == is-enabled && -L " + d.enabled("$3") + " ]]\n"
	name := filepath.Join(d.root, programsDirectory, "systemctl")
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(script), 0o750) // #nosec G306 -- a program of the test.
}

// Boot starts all services that exist.
func (d *DBus) Boot() error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	paths, err := filepath.Glob(filepath.Join(d.root, unitsDirectory, "*.service"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := d.start(filepath.Base(path)); err != nil {
			return err
		}
	}
	return nil
}

// Shutdown stops all services.
func (d *DBus) Shutdown() error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for name := range d.running {
		if err := d.stop(name); err != nil {
			return err
		}
	}
	return nil
}

// Start implements Gardener's interface.
func (d *DBus) Start(ctx context.Context, recorder events.EventRecorder, node apiruntime.Object, name string) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.running[name] == nil {
		if err := d.start(name); err != nil {
			return err
		}
	}
	return d.DBus.Start(ctx, recorder, node, name)
}

// Stop implements Gardener's interface. It returns after the service has ended.
func (d *DBus) Stop(ctx context.Context, recorder events.EventRecorder, node apiruntime.Object, name string) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if err := d.stop(name); err != nil {
		return err
	}
	return d.DBus.Stop(ctx, recorder, node, name)
}

// Restart implements Gardener's interface.
func (d *DBus) Restart(ctx context.Context, recorder events.EventRecorder, node apiruntime.Object, name string) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if err := d.stop(name); err != nil {
		return err
	}
	if err := d.start(name); err != nil {
		return err
	}
	return d.DBus.Restart(ctx, recorder, node, name)
}

func (d *DBus) start(name string) error {
	command, err := d.command(name, "ExecStart")
	if err != nil || command == nil {
		return err
	}
	d.running[name], err = startProcess(command)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}

func (d *DBus) stop(name string) error {
	running := d.running[name]
	if running == nil {
		return nil
	}
	delete(d.running, name)
	running.stop()
	// Like systemd, read the present unit, not the one with which the service was started.
	command, err := d.command(name, "ExecStopPost")
	if err != nil || command == nil {
		return err
	}
	if err := command.Run(); err != nil {
		return fmt.Errorf("run ExecStopPost of %s: %w", name, err)
	}
	return nil
}

// command returns the command of a setting of a service, nil if the program is not below the root.
func (d *DBus) command(name, setting string) (*exec.Cmd, error) {
	unit, err := os.ReadFile(filepath.Join(d.root, unitsDirectory, name))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(unit)) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), setting+"=")
		if !ok {
			continue
		}
		words := strings.Fields(value)
		program := filepath.Join(d.root, words[0])
		if _, err := os.Stat(program); err != nil {
			return nil, nil
		}
		if err := d.installSystemctl(); err != nil {
			return nil, fmt.Errorf("install systemctl: %w", err)
		}
		command := exec.Command(program, words[1:]...) // #nosec G204 -- from a unit of the test.
		command.Env, command.Stdout, command.Stderr = d.environment, d.output, d.output
		return command, nil
	}
	return nil, nil
}

// process is a running service.
type process struct {
	pid   int
	ended chan struct{}
}

// startProcess starts a command that ends with this process.
func startProcess(command *exec.Cmd) (*process, error) {
	command.SysProcAttr = attributes()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		// The kernel sends the signal when the thread ends that has started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return &process{pid: command.Process.Pid, ended: ended}, nil
}

// stop ends all processes of the service.
func (p *process) stop() {
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	<-p.ended
}
