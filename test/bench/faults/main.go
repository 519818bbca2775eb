// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command faults measures the time that a pull on a node loses because the cache fails: with the hosts.toml and the
// unit that the extension puts on nodes, and with the hosts.toml that gardener-node-agent writes for a cache by itself.
// It pulls with the registry clients of containerd 1.7 and 2, and prints one table.
//
// Nodes, caches and the upstream are on loopback addresses of this machine. Nearly all of the time is spent waiting, so
// all measurements run at once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxLoss is the time that a pull may lose because of a fault that nodes detect.
const maxLoss = 2 * time.Second

// settings are the command's flags.
type settings struct {
	layers  int
	faults  string
	timeout time.Duration
}

func main() {
	var s settings
	flag.IntVar(&s.layers, "layers", 8, "number of layers of the image")
	flag.StringVar(&s.faults, "faults", strings.Join(faultNames(), ","), "the faults to measure")
	flag.DurationVar(&s.timeout, "timeout", 15*time.Minute, "time limit")
	flag.Parse()

	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancelTimeout := context.WithTimeout(ctx, s.timeout)
	err := run(ctx, s)
	cancelTimeout()
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (err error) {
	selected, err := selectFaults(s.faults)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "faults-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newBench(ctx, dir, s.layers)
	if err != nil {
		return err
	}
	defer b.close()

	measurements := make([]*measurement, 0, len(selected)*len(majors)*len(setups))
	group, ctx := errgroup.WithContext(ctx)
	for _, fault := range selected {
		for _, major := range majors {
			for _, setup := range setups {
				m := &measurement{fault: fault, major: major, setup: setup}
				measurements = append(measurements, m)
				group.Go(func() error {
					if err := m.run(ctx, b); err != nil {
						return fmt.Errorf("measure %s with containerd %d, %s: %w", fault.name, major, setup, err)
					}
					return nil
				})
			}
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Print(render(selected, measurements, s.layers))
	return check(measurements)
}

// check returns an error if nodes lose more time than they should.
func check(measurements []*measurement) error {
	var failures []error
	for _, m := range measurements {
		if m.setup != withUnit || !m.fault.detected {
			continue
		}
		// Containerd 1.7 does not know dial_timeout, so only the unit helps it.
		if m.major == 2 && !m.fault.waits && (m.first.failed || m.first.loss > maxLoss) {
			failures = append(failures, fmt.Errorf("the cache %s: with containerd %s, the first pull loses %s", m.fault.what, m.version, m.first))
		}
		if m.later.failed || m.later.loss > maxLoss {
			failures = append(failures, fmt.Errorf("the cache %s: with containerd %s, later pulls lose %s", m.fault.what, m.version, m.later))
		}
	}
	return errors.Join(failures...)
}
