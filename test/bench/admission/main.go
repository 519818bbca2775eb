// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command admission measures the latency and the memory of the admission component beside a full Gardener API server.
//
// It starts etcd, kube-apiserver and gardener-apiserver on loopback addresses, fills them with Shoots and Secrets,
// starts the component as a process, and sends it the reviews of API servers, including hostile ones, to which it must
// respond within 100 ms. All processes share the processors of this machine, so the numbers are upper bounds.
//
// TEST_ASSET_ETCD and TEST_ASSET_KUBE_APISERVER, or KUBEBUILDER_ASSETS, name the programs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

// settings are the command's flags.
type settings struct {
	shoots  int
	secrets int
	largest int
	small   int
	ballast int

	reviews int
	clients int
	timeout time.Duration
}

func main() {
	var s settings
	flag.IntVar(&s.shoots, "shoots", 2000, "Shoots in the garden")
	flag.IntVar(&s.secrets, "secrets", 5000, "Secrets in the garden")
	flag.IntVar(&s.largest, "largest-project", 1000, "Shoots in the largest project")
	flag.IntVar(&s.small, "small-project", 50, "Shoots in each of the other projects")
	flag.IntVar(&s.ballast, "ballast", 10*1024, "additional bytes of each Shoot, for the status and managed fields of a real one")
	flag.IntVar(&s.reviews, "reviews", 200, "reviews for each line")
	flag.IntVar(&s.clients, "clients", 8, "concurrent reviews in the lines with concurrency")
	flag.DurationVar(&s.timeout, "timeout", 20*time.Minute, "time limit of all measurements")
	flag.Parse()
	logf.SetLogger(logr.Discard())

	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(s settings) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if os.Getenv("TEST_ASSET_KUBE_APISERVER") == "" && os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return errors.New("no kube-apiserver: run make bench-admission, or set TEST_ASSET_KUBE_APISERVER or KUBEBUILDER_ASSETS")
	}
	progress("Start the API servers")
	servers, err := startServers()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servers.stop()) }()

	progress("Create %d Shoots and %d Secrets", s.shoots, s.secrets)
	population, err := populate(ctx, servers.client, s)
	if err != nil {
		return err
	}
	progress("Build and start the admission component")
	program, err := startProgram(ctx, servers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, program.stop()) }()

	bench := &bench{settings: s, servers: servers, population: population, program: program}
	return bench.run(ctx)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "==> "+format+"\n", args...)
}
