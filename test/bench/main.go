// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command bench compares this project's cache server with stock Distribution, in one run, with the same configuration
// file and the same upstream of limited bandwidth and latency, and with Go's file server, which is the limit of a
// server in Go. It prints one table of medians.
//
// Everything runs on loopback addresses of this machine: clients, caches and upstream share its processors, so compare
// columns, not machines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/larder-project/larder/test/cacheprocess"
)

// settings are the command's flags.
type settings struct {
	runs            int
	scenarios       string
	implementations string
	timeout         time.Duration
	tls             bool

	bandwidth float64 // MB/s
	latency   time.Duration
	layers    int
	layerMiB  int
	clients   string
	warmGiB   float64
	heads     int
	blobs     uint
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		exitOn(serveRole(role))
		return
	}
	var s settings
	flag.IntVar(&s.runs, "runs", 3, "runs of each scenario; the table shows medians")
	flag.StringVar(&s.scenarios, "scenarios", strings.Join(scenarioNames(), ","), "the scenarios to run")
	flag.StringVar(&s.implementations, "implementations", cacheprocess.Stock+","+cacheprocess.Ours, "the implementations to run")
	flag.DurationVar(&s.timeout, "timeout", 20*time.Minute, "time limit of all runs")
	flag.BoolVar(&s.tls, "upstream-tls", true, "serve HTTPS by the upstream")
	flag.Float64Var(&s.bandwidth, "bandwidth", 200, "bandwidth of the upstream, shared by all connections, in MB/s")
	flag.DurationVar(&s.latency, "latency", 10*time.Millisecond, "latency of the upstream for each request")
	flag.IntVar(&s.layers, "layers", 4, "number of layers of the image")
	flag.IntVar(&s.layerMiB, "layer-size", 16, "size of each layer in MiB")
	flag.StringVar(&s.clients, "clients", "1,4,16,64", "numbers of concurrent clients that pull a cold image")
	flag.Float64Var(&s.warmGiB, "warm", 4, "GiB to pull in the warm scenarios")
	flag.IntVar(&s.heads, "heads", 2000, "number of requests in the HEAD scenario")
	flag.UintVar(&s.blobs, "blobs", 100_000, "number of cached blobs in the startup scenario")
	flag.Parse()

	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, cancelTimeout := context.WithTimeout(ctx, s.timeout)
	defer cancelTimeout()
	err := run(ctx, s)
	cancelTimeout()
	cancel()
	exitOn(err)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	defer b.close()

	selected := strings.Split(s.scenarios, ",")
	for _, name := range selected {
		if !slices.Contains(scenarioNames(), name) {
			return fmt.Errorf("unknown scenario %q, use some of %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	var failures []error
	for n := range s.runs {
		for _, scenario := range scenarios {
			if !slices.Contains(selected, scenario.name) {
				continue
			}
			start := time.Now()
			if err := scenario.run(ctx, b); err != nil {
				failures = append(failures, fmt.Errorf("run %d of %s: %w", n+1, scenario.name, err))
			}
			fmt.Fprintf(os.Stderr, "run %d/%d  %-10s %6.1f s\n", n+1, s.runs, scenario.name, time.Since(start).Seconds())
			if ctx.Err() != nil {
				break
			}
		}
	}
	fmt.Printf("\nUpstream of %g MB/s and %s per request (TLS: %t), image of %d x %d MiB, medians of %d runs.\n\n%s",
		s.bandwidth, s.latency, s.tls, s.layers, s.layerMiB, s.runs, b.table.render())
	return errors.Join(failures...)
}
