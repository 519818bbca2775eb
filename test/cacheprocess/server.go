// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheprocess

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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

// Server is a cache server: a directory with its configuration, its log and its
// data, and, while it runs, a process.
type Server struct {
	Implementation Implementation
	Config         Config

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

// New prepares a server that lives in the given directory, which it makes.
func New(implementation Implementation, dir string, config Config) (*Server, error) {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o750); err != nil {
		return nil, err
	}
	identity, err := NewIdentity(dir)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
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

// DataDirectory returns the directory in which the server keeps its content.
func (s *Server) DataDirectory() string { return s.dataDirectory }

// SetDataDirectory replaces the directory before the server starts.
func (s *Server) SetDataDirectory(dir string) { s.dataDirectory = dir }

// Trust makes the server trust the certificate of an upstream before it starts.
func (s *Server) Trust(identity *Identity) { s.identity = identity }

// Launch starts the process and does not wait for it to serve.
func (s *Server) Launch() error {
	if s.process != nil {
		return errors.New("the server runs already")
	}
	if err := s.WriteConfig(); err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()

	command := exec.Command(s.Implementation.Binary, "serve", s.configFile())
	command.Env = append(os.Environ(), "SSL_CERT_FILE="+s.identity.CertificateFile, "OTEL_TRACES_EXPORTER=none")
	if s.Implementation.Race {
		command.Env = append(command.Env, "GORACE=halt_on_error=1")
	}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", s.Implementation.Name, err)
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

// startTimeout is how long a process may take to serve.
const startTimeout = 3 * time.Minute

// AwaitServing waits until the server answers.
func (s *Server) AwaitServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := s.Client()
	defer client.HTTP.CloseIdleConnections()
	for {
		attempt, cancelAttempt := context.WithTimeout(ctx, startTimeout/4)
		err := client.Ping(attempt)
		cancelAttempt()
		if err == nil {
			return nil
		}
		select {
		case <-s.process.exited:
			return fmt.Errorf("%s exited: %w\n%s", s.Implementation.Name, s.process.err, s.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve: %w\n%s", s.Implementation.Name, err, s.LogTail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// endTimeout is how long a process may take to end when it is asked to.
const endTimeout = time.Minute

// Stop asks the process to end and kills it when it has not after a while.
func (s *Server) Stop() {
	s.end(syscall.SIGTERM)
}

// Kill ends the process at once, as a crash would.
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

// Exited tells whether the process ended by itself.
func (s *Server) Exited() bool {
	select {
	case <-s.process.exited:
		return true
	default:
		return false
	}
}

// WriteConfig writes the configuration file anew, in one step.
func (s *Server) WriteConfig() error {
	data, err := s.marshalConfig()
	if err != nil {
		return err
	}
	next := s.configFile() + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.configFile())
}

func (s *Server) configFile() string { return filepath.Join(s.dir, "config.yml") }

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// LogTail returns the last lines of the server's log, or where it crashed.
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

// URL returns the server's URL.
func (s *Server) URL() string {
	if s.Config.TLS {
		return "https://" + s.port.Address()
	}
	return "http://" + s.port.Address()
}

// MetricsURL returns the URL of the server's metrics.
func (s *Server) MetricsURL() string { return "http://" + s.debugPort.Address() + "/metrics" }

// Client returns a new client of the server with connections of its own.
func (s *Server) Client() *pull.Client {
	return pull.NewClient(s.URL(), &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: s.identity.Pool, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 8,
	})
}

// Remove removes the server's directory, once it has ended.
func (s *Server) Remove() error { return os.RemoveAll(s.dir) }
