// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/ports"
)

const (
	programPackage = "github.com/larder-project/larder/cmd/gardener-extension-registry-cache"
	programName    = "gardener-extension-registry-cache"
	// rendered is the chart with its default values, relative to the root of the module.
	rendered = "charts/testdata/extension.yaml"
)

// program is the extension, as its chart deploys it.
type program struct {
	directory  string
	binary     string
	deployment *appsv1.Deployment
	config     string
	// permissions are the roles and their bindings.
	permissions []client.Object
}

// build builds the extension and reads its chart.
func build(ctx context.Context) (_ *program, err error) {
	p := &program{}
	if err := p.readChart(ctx); err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	if p.directory, err = os.MkdirTemp("", "bench-controller-"); err != nil {
		return nil, err
	}
	p.binary = filepath.Join(p.directory, programName)
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", p.binary, programPackage)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build extension: %w: %s", err, output), p.remove())
	}
	return p, nil
}

func (p *program) readChart(ctx context.Context) error {
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return err
	}
	manifests, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(module)), rendered))
	if err != nil {
		return err
	}
	reader := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(manifests)))
	buffer := make([]byte, len(manifests)+1)
	for {
		n, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		object, _, err := clientgoscheme.Codecs.UniversalDeserializer().Decode(buffer[:n], nil, nil)
		if runtime.IsNotRegisteredError(err) {
			continue
		}
		if err != nil {
			return err
		}
		switch object := object.(type) {
		case *appsv1.Deployment:
			p.deployment = object
		case *corev1.ConfigMap:
			if config, ok := object.Data["config.yaml"]; ok {
				p.config = config
			}
		case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding, *rbacv1.Role, *rbacv1.RoleBinding:
			p.permissions = append(p.permissions, object.(client.Object))
		}
	}
	if p.deployment == nil || p.config == "" {
		return fmt.Errorf("%s has no Deployment or no configuration", rendered)
	}
	return nil
}

// namespace is that of the extension in the seed.
func (p *program) namespace() string { return p.deployment.Namespace }

// user is the extension's user in the seed.
func (p *program) user() string {
	return "system:serviceaccount:" + p.namespace() + ":" + p.deployment.Spec.Template.Spec.ServiceAccountName
}

func (p *program) remove() error { return os.RemoveAll(p.directory) }

// process is a running extension.
type process struct {
	cmd    *exec.Cmd
	health string
	// reserved are its ports.
	reserved []*ports.Reservation
	// used is the CPU time at the last call of cpu.
	used time.Duration
}

// start starts a process. The name distinguishes its files from those of others.
func (p *program) start(server *server, name string) (*process, error) {
	kubeconfig, err := server.kubeconfig(p.user(), "")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		os.WriteFile(server.file("kubeconfig"), kubeconfig, 0o600),
		os.WriteFile(server.file("config.yaml"), []byte(p.config), 0o600),
	); err != nil {
		return nil, err
	}
	process := &process{}
	for range 3 {
		reserved, err := ports.Reserve()
		if err != nil {
			return nil, err
		}
		process.reserved = append(process.reserved, reserved)
	}
	webhook, health, metrics := process.reserved[0], process.reserved[1], process.reserved[2]
	process.health = "http://" + health.Address()

	container := p.deployment.Spec.Template.Spec.Containers[0]
	// The last of equal flags counts.
	process.cmd = exec.Command(p.binary, append(slices.Clone(container.Args),
		"--kubeconfig="+server.file("kubeconfig"),
		"--config="+server.file("config.yaml"),
		"--webhook-config-mode=url",
		"--webhook-config-url="+webhook.Address(),
		"--webhook-config-server-host=127.0.0.1",
		fmt.Sprintf("--webhook-config-server-port=%d", webhook.Port()),
		"--webhook-config-cert-dir="+server.file(name+"-certificates"),
		"--metrics-bind-address="+metrics.Address(),
		"--health-bind-address="+health.Address(),
	)...)
	process.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	process.cmd.Env = os.Environ()
	for _, variable := range container.Env {
		value := variable.Value
		if variable.ValueFrom != nil {
			value = p.namespace() // All references are to it.
		}
		process.cmd.Env = append(process.cmd.Env, variable.Name+"="+value)
	}
	log, err := os.Create(server.file(name + ".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	process.cmd.Stdout, process.cmd.Stderr = log, log
	if err := process.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start extension: %w", err)
	}
	return process, nil
}

// awaitReady waits until the process has filled its caches.
func (p *process) awaitReady(ctx context.Context) error {
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.health+"/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	}); err != nil {
		return fmt.Errorf("wait for the extension to become ready: %w", err)
	}
	return nil
}

// rss returns the memory of the process and its maximum, in MiB.
func (p *process) rss() (current, peak float64, err error) {
	rss, err := cacheprocess.ProcessRSS(p.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	peakRSS, err := cacheprocess.ProcessPeakRSS(p.cmd.Process.Pid)
	return float64(rss) / (1 << 20), float64(peakRSS) / (1 << 20), err
}

// cpu returns the CPU seconds since the last call.
func (p *process) cpu() (float64, error) {
	used, err := cacheprocess.ProcessCPU(p.cmd.Process.Pid)
	since := used - p.used
	p.used = used
	return since.Seconds(), err
}

// stop ends the process with a signal. It may have ended already.
func (p *process) stop(signal syscall.Signal) error {
	if p.cmd == nil {
		return nil
	}
	defer func() {
		for _, reserved := range p.reserved {
			_ = reserved.Close()
		}
		p.cmd = nil
	}()
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	_ = p.cmd.Wait() // A signal is an error.
	return nil
}
