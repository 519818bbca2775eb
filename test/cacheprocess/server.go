// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheprocess

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/larder-project/larder/test/ports"
	"github.com/larder-project/larder/test/pull"
)

// Server is a cache server: a directory with its configuration, its log and its data, and, while it runs, a process.
type Server struct {
	Implementation Implementation
	Config         Config
	// Env overrides the environment of the process.
	Env []string
	// Stdout and Stderr, if set, receive the output in place of the log.
	Stdout, Stderr io.Writer

	dir, dataDirectory string
	port, debugPort    *ports.Reservation
	identity           *Identity
	process            *process
}

// process is a started program.
type process struct {
	command *exec.Cmd
	exited  chan struct{}
	err     error // valid after exited
}

// New prepares a server in the given directory, which it creates.
func New(implementation Implementation, dir string, config Config) (*Server, error) {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o750); err != nil {
		return nil, err
	}
	identity, err := NewIdentity(dir)
	if err != nil {
		return nil, fmt.Errorf("create certificate: %w", err)
	}
	s := &Server{
		Implementation: implementation,
		Config:         config,
		dir:            dir,
		dataDirectory:  filepath.Join(dir, "data"),
		identity:       identity,
	}
	if s.port, err = ports.Reserve(); err != nil {
		return nil, err
	}
	s.debugPort, err = ports.Reserve()
	return s, err
}

// DataDirectory returns the directory of the server's content.
func (s *Server) DataDirectory() string { return s.dataDirectory }

// SetDataDirectory replaces the directory before the server starts.
func (s *Server) SetDataDirectory(dir string) { s.dataDirectory = dir }

// Trust makes the server trust the certificate of an upstream before it starts.
func (s *Server) Trust(identity *Identity) { s.identity = identity }

// Launch starts the process without waiting until it serves.
func (s *Server) Launch() error {
	if s.process != nil {
		return errors.New("server is already running")
	}
	if err := s.WriteConfig(); err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()

	command := exec.Command(s.Implementation.Binary, "serve", s.ConfigFile())
	command.Env = append(os.Environ(), "SSL_CERT_FILE="+s.identity.AuthorityFile, "OTEL_TRACES_EXPORTER=none")
	if s.Implementation.Race {
		command.Env = append(command.Env, "GORACE=halt_on_error=1")
	}
	if s.Config.Raw != nil {
		command.Env = append(command.Env,
			"REGISTRY_HTTP_ADDR="+s.Address(),
			"REGISTRY_HTTP_DEBUG_ADDR="+s.DebugAddress(),
			"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="+s.DataDirectory())
	}
	command.Env = append(command.Env, s.Env...)
	command.Stdout, command.Stderr = log, log
	if s.Stdout != nil {
		command.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		command.Stderr = s.Stderr
	}
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.Implementation.Name, err)
	}
	p := &process{command: command, exited: make(chan struct{})}
	go func() {
		p.err = command.Wait()
		close(p.exited)
	}()
	s.process = p
	return nil
}

// Start starts the process and waits until it serves.
func (s *Server) Start(ctx context.Context) error {
	if err := s.Launch(); err != nil {
		return err
	}
	if err := s.AwaitServing(ctx); err != nil {
		s.Kill()
		return err
	}
	return nil
}

// startTimeout limits the time until a process serves.
const startTimeout = 3 * time.Minute

// AwaitServing waits until the server responds.
func (s *Server) AwaitServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := s.Client()
	defer client.HTTP.CloseIdleConnections()
	for {
		attempt, cancelAttempt := context.WithTimeout(ctx, startTimeout/4)
		err := client.Ping(attempt)
		if pull.StatusOf(err) == http.StatusUnauthorized {
			err = nil // It serves, but only to clients with a credential.
		}
		cancelAttempt()
		if err == nil {
			return nil
		}
		select {
		case <-s.process.exited:
			return fmt.Errorf("%s exited: %w\n%s", s.Implementation.Name, s.process.err, s.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w\n%s", s.Implementation.Name, err, s.LogTail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// endTimeout limits the time until a process ends on request.
const endTimeout = time.Minute

// Stop terminates the process, and kills it after a timeout.
func (s *Server) Stop() {
	s.end(syscall.SIGTERM)
}

// Kill ends the process at once, like a crash.
func (s *Server) Kill() {
	s.end(syscall.SIGKILL)
}

func (s *Server) end(signal syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.command.Process.Signal(signal)
	select {
	case <-s.process.exited:
	case <-time.After(endTimeout):
		_ = s.process.command.Process.Kill()
		<-s.process.exited
	}
	s.process = nil
}

// Terminate asks the process to end, like Kubernetes, without waiting.
func (s *Server) Terminate() { _ = s.process.command.Process.Signal(syscall.SIGTERM) }

// ExitCode returns the exit code of the process: 128 plus its number after a signal, and -1 while the process runs.
func (s *Server) ExitCode() int {
	if !s.Exited() {
		return -1
	}
	state := s.process.command.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// Exited reports whether the process ended by itself.
func (s *Server) Exited() bool {
	select {
	case <-s.process.exited:
		return true
	default:
		return false
	}
}

// WriteConfig replaces the configuration file atomically.
func (s *Server) WriteConfig() error {
	data, err := s.marshalConfig()
	if err != nil {
		return err
	}
	next := s.ConfigFile() + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.ConfigFile())
}

// ConfigFile returns the path of the configuration file.
func (s *Server) ConfigFile() string { return filepath.Join(s.dir, "config.yml") }

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// LogTail returns the last lines of the server's log, or the first lines of a crash.
func (s *Server) LogTail() string {
	const most = 12
	data, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "unexpected fault address") {
			return strings.Join(lines[i:min(len(lines), i+most)], "\n")
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// Address returns the host and port of the server.
func (s *Server) Address() string { return s.port.Address() }

// DebugAddress returns the host and port of the debug server.
func (s *Server) DebugAddress() string { return s.debugPort.Address() }

// URL returns the server's URL.
func (s *Server) URL() string {
	if s.Config.TLS {
		return "https://" + s.port.Address()
	}
	return "http://" + s.port.Address()
}

// MetricsURL returns the URL of the server's metrics.
func (s *Server) MetricsURL() string { return "http://" + s.debugPort.Address() + "/metrics" }

// Client returns a new client with connections of its own.
func (s *Server) Client() *pull.Client {
	return pull.NewClient(s.URL(), &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: s.identity.Pool, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 8,
	})
}

// Remove removes the server's directory, once it has ended.
func (s *Server) Remove() error { return os.RemoveAll(s.dir) }
