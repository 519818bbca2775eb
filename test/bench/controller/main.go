// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command controller measures the extension's controllers with up to 1,000 Shoots: time, CPU, memory and the requests
// that they send to the API servers of the seed and of the Shoots.
//
// It starts etcd and kube-apiserver, which is both seed and Shoot, and fills them with what gardenlet writes for each
// Shoot. The extension runs as a process, with the flags and the permissions of its chart. The requests are those in
// the audit log. This program stands in for gardener-resource-manager, kube-controller-manager and the caches, all of
// which act at once. All Shoots have one kube-system, since the controllers read objects by name; each has a user and a
// CA bundle of its own, so no two Shoots share a connection. All processes share the processors of this machine, so the
// times are upper bounds.
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

// settings are the command's flags.
type settings struct {
	sizes        sizes
	machineTypes int
	rest         time.Duration
	failing      int
	failTime     time.Duration
	storm        time.Duration
	timeout      time.Duration
	keep         string
}

// sizes are numbers of Shoots.
type sizes []int

// String implements flag.Value.
func (s *sizes) String() string {
	words := make([]string, 0, len(*s))
	for _, size := range *s {
		words = append(words, strconv.Itoa(size))
	}
	return strings.Join(words, ",")
}

// Set implements flag.Value.
func (s *sizes) Set(value string) error {
	*s = nil
	for word := range strings.SplitSeq(value, ",") {
		size, err := strconv.Atoi(word)
		if err != nil || size < 1 {
			return fmt.Errorf("%q is not a number of Shoots", word)
		}
		*s = append(*s, size)
	}
	return nil
}

func main() {
	s := settings{sizes: sizes{1, 100, 1000}}
	flag.Var(&s.sizes, "shoots", "numbers of Shoots in the seed, a column for each; the last one also runs the failures")
	flag.IntVar(&s.machineTypes, "machine-types", 250, "machine types in the CloudProfile of each Cluster, which make up most of its size")
	flag.DurationVar(&s.rest, "rest", time.Minute, "duration of the measurement at rest")
	flag.IntVar(&s.failing, "failing", 10, "Shoots that fail in each way")
	flag.DurationVar(&s.failTime, "failures", 2*time.Minute, "duration of the measurement with failing Shoots")
	flag.DurationVar(&s.storm, "storm", 15*time.Minute, "time limit for the reconciliation of all Shoots")
	flag.DurationVar(&s.timeout, "timeout", time.Hour, "time limit of all measurements")
	flag.StringVar(&s.keep, "logs", "", "directory for the audit log and the logs of the extension; they are deleted if it is empty")
	flag.Parse()
	logf.SetLogger(logr.Discard())

	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if os.Getenv("TEST_ASSET_KUBE_APISERVER") == "" && os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return errors.New("no kube-apiserver: run make bench-controller, or set TEST_ASSET_KUBE_APISERVER or KUBEBUILDER_ASSETS")
	}
	progress("Build the extension")
	program, err := build(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = program.remove() }()

	report := newReport(s.sizes)
	for i, size := range s.sizes {
		last := i == len(s.sizes)-1
		if err := measure(ctx, s, program, size, last, report); err != nil {
			return fmt.Errorf("%d Shoots: %w", size, err)
		}
	}
	report.print()
	return nil
}

func measure(ctx context.Context, s settings, program *program, size int, last bool, report *report) (err error) {
	progress("Start an API server for %d Shoots", size)
	bench, err := newBench(ctx, s, program, size, report)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bench.stop()) }()
	return bench.run(ctx, last)
}

var started = time.Now()

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "==> %5.0f s: %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
}
