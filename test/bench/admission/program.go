// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/integration/admission/garden"
	"github.com/larder-project/larder/test/ports"
)

const (
	programPackage = "github.com/larder-project/larder/cmd/gardener-extension-registry-cache-admission"
	programName    = "gardener-extension-registry-cache-admission"
)

// program is the admission component.
type program struct {
	directory string
	port      *ports.Reservation
	output    bytes.Buffer
	cmd       *exec.Cmd
	client    *http.Client
	// urls are the URLs of the webhooks, by their short names.
	urls map[string]string
}

// startProgram builds the component, starts it and waits until its webhooks are registered.
func startProgram(ctx context.Context, servers *servers) (_ *program, err error) {
	p := &program{}
	if p.directory, err = os.MkdirTemp("", "bench-admission-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop(), errors.New(p.output.String()))
		}
	}()
	binary := filepath.Join(p.directory, programName)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, programPackage)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build admission component: %w: %s", err, output)
	}
	kubeconfig := filepath.Join(p.directory, "kubeconfig.yaml")
	if err := os.WriteFile(kubeconfig, servers.kubeconfig, 0o600); err != nil {
		return nil, err
	}
	if p.port, err = ports.Reserve(); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(binary, garden.AdmissionArguments(kubeconfig, p.directory, p.port.Port())...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return nil, err
	}
	if err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		return p.connect(ctx, servers.client)
	}); err != nil {
		return nil, fmt.Errorf("wait for the webhooks of the admission component: %w", err)
	}
	return p, nil
}

// connect reads the webhook configuration like an API server.
func (p *program) connect(ctx context.Context, c client.Client) (bool, error) {
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := c.Get(ctx, client.ObjectKey{Name: programName}, config); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	roots := x509.NewCertPool()
	p.urls = map[string]string{}
	for _, webhook := range config.Webhooks {
		if !roots.AppendCertsFromPEM(webhook.ClientConfig.CABundle) {
			return false, nil
		}
		name, _, _ := strings.Cut(webhook.Name, ".")
		p.urls[name] = *webhook.ClientConfig.URL
	}
	p.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}}
	return true, nil
}

// review sends a review to one of the webhooks.
func (p *program) review(ctx context.Context, webhook string, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request:  request,
	})
	if err != nil {
		return nil, err
	}
	httpRequest, err := http.NewRequestWithContext(ctx, http.MethodPost, p.urls[webhook], bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	httpRequest.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(httpRequest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	result := &admissionv1.AdmissionReview{}
	if err := json.NewDecoder(response.Body).Decode(result); err != nil {
		return nil, fmt.Errorf("decode response with status %s: %w", response.Status, err)
	}
	return result.Response, nil
}

// memory returns the current and the peak memory of the program in MiB.
func (p *program) memory() (current, peak float64, err error) {
	rss, err := cacheprocess.ProcessRSS(p.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	peakRSS, err := cacheprocess.ProcessPeakRSS(p.cmd.Process.Pid)
	return float64(rss) / (1 << 20), float64(peakRSS) / (1 << 20), err
}

func (p *program) stop() error {
	var err error
	if p.cmd != nil {
		if err = p.cmd.Process.Signal(syscall.SIGTERM); err == nil {
			err = p.cmd.Wait()
		}
	}
	return errors.Join(err, os.RemoveAll(p.directory))
}
