// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/larder-project/larder/test/upstreamsim"
)

// roleVariable makes this program a server in a role, with the JSON options in roleOptions. The server writes a line of
// JSON to its standard output when it serves, and ends with its parent.
const (
	roleVariable = "LARDER_BENCH_ROLE"
	roleOptions  = "LARDER_BENCH_OPTIONS"
)

// fileServerOptions are the options of the role "fileserver".
type fileServerOptions struct {
	Directory                string
	CertificateFile, KeyFile string
}

// upstreamOptions are the options of the role "upstream".
type upstreamOptions struct {
	upstreamsim.Options
	CertificateFile, KeyFile string
	Images                   []imageOptions
}

// imageOptions describes an image, so that each process can create it.
type imageOptions struct {
	Name, Tag        string
	Seed             uint64
	Layers, LayerLen int
}

func (o imageOptions) make() upstreamsim.Image {
	return upstreamsim.RandomImage(o.Seed, o.Layers, o.LayerLen)
}

// started is the line of a server that serves.
type started struct {
	URL     string
	Control string `json:",omitempty"`
}

// serveRole runs the server of the given role.
func serveRole(role string) error {
	switch role {
	case "fileserver":
		return serveFiles()
	case "upstream":
		return serveUpstream()
	default:
		return fmt.Errorf("unknown role %q", role)
	}
}

func serveFiles() error {
	var options fileServerOptions
	if err := json.Unmarshal([]byte(os.Getenv(roleOptions)), &options); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	handler := http.FileServer(http.Dir(options.Directory))
	if options.CertificateFile == "" {
		announce(started{URL: "http://" + listener.Addr().String()})
		return newServer(handler).Serve(listener)
	}
	announce(started{URL: "https://" + listener.Addr().String()})
	return newServer(handler).ServeTLS(listener, options.CertificateFile, options.KeyFile)
}

func serveUpstream() error {
	var options upstreamOptions
	if err := json.Unmarshal([]byte(os.Getenv(roleOptions)), &options); err != nil {
		return err
	}
	if options.CertificateFile != "" {
		certificate, err := tls.LoadX509KeyPair(options.CertificateFile, options.KeyFile)
		if err != nil {
			return err
		}
		options.Certificate = &certificate
	}
	registry, err := upstreamsim.Start(options.Options)
	if err != nil {
		return err
	}
	defer registry.Close()
	for _, image := range options.Images {
		registry.Push(image.Name, image.Tag, image.make())
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	announce(started{URL: registry.URL(), Control: "http://" + control.Addr().String()})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /counters", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(registry.Counters())
	})
	mux.HandleFunc("DELETE /counters", func(http.ResponseWriter, *http.Request) { registry.ResetCounters() })
	return newServer(mux).Serve(control)
}

func newServer(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
}

func announce(line started) { _ = json.NewEncoder(os.Stdout).Encode(line) }

// roleProcess is a server in a role, as seen by its parent.
type roleProcess struct {
	started
	command *exec.Cmd
}

// startRole starts this program as a child, in a role.
func startRole(role string, options any) (*roleProcess, error) {
	encoded, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(executable)
	command.Env = append(os.Environ(), roleVariable+"="+role, roleOptions+"="+string(encoded))
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &roleProcess{command: command}
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(bytes.TrimSpace(line), &p.started)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return p, nil
}

func (p *roleProcess) stop() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// counters returns an upstream's counters since the last reset.
func (p *roleProcess) counters(ctx context.Context) (upstreamsim.Counters, error) {
	var counters upstreamsim.Counters
	response, err := p.control(ctx, http.MethodGet)
	if err != nil {
		return counters, err
	}
	defer func() { _ = response.Body.Close() }()
	return counters, json.NewDecoder(response.Body).Decode(&counters)
}

func (p *roleProcess) resetCounters(ctx context.Context) error {
	response, err := p.control(ctx, http.MethodDelete)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func (p *roleProcess) control(ctx context.Context, method string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, p.Control+"/counters", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: 10 * time.Second}
	return client.Do(request)
}
