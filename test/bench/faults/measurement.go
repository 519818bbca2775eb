// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/upstreamsim"
)

// detectionTime is the longest time, on a busy machine, after which the unit reacts to a fault that it detects.
const detectionTime = 10 * time.Second

// majors are the versions of containerd.
var majors = []int{1, 2}

// setup is the way in which a node uses caches.
type setup string

const (
	withAgent setup = "the node agent's hosts.toml"
	withUnit  setup = "the extension's unit"
)

var setups = []setup{withAgent, withUnit}

// measurement is the time that pulls lose on one node because of one fault.
type measurement struct {
	fault fault
	major int
	setup setup

	version string // of containerd
	// first is a pull that begins with the fault, and later one that begins after the unit has reacted, or could have.
	first, later outcome
	// detection is the time until the unit has removed hosts.toml; 0 if it has not.
	detection time.Duration
}

// outcome is a pull with the fault.
type outcome struct {
	// loss is the time that the pull takes longer than one without the fault, or the time until it fails.
	loss   time.Duration
	failed bool
}

func (o outcome) String() string {
	if o.failed {
		return fmt.Sprintf("fails after %.0f s", o.loss.Seconds())
	}
	return fmt.Sprintf("%.1f s", max(0, o.loss.Seconds()))
}

func (m *measurement) run(ctx context.Context, b *bench) (err error) {
	c, err := b.startCache()
	if err != nil {
		return err
	}
	defer c.registry.Close()
	root, err := os.MkdirTemp(b.dir, "node-")
	if err != nil {
		return err
	}
	n, err := newNode(ctx, root, b, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.services.Shutdown()) }()
	if m.setup == withUnit {
		err = n.useUnit(ctx)
	} else {
		err = n.useAgent()
	}
	if err != nil {
		return err
	}

	healthy, err := b.pullHealthy(ctx, m.major, n.registries())
	if err != nil {
		return err
	}
	if got, want := c.registry.Counters().Total(upstreamsim.BlobGet), len(b.image.Blobs); got != want {
		return fmt.Errorf("a pull without a fault requests %d blobs from the cache, not %d", got, want)
	}
	m.version = healthy.Version

	if err := m.fault.begin(c); err != nil {
		return fmt.Errorf("begin fault: %w", err)
	}
	begun := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	measure := func(o *outcome) {
		group.Go(func() error {
			result, err := b.pull(ctx, m.major, n.registries())
			if o.failed = result.Error != ""; o.failed {
				o.loss = result.duration()
			} else {
				o.loss = result.duration() - healthy.duration()
			}
			return err
		})
	}
	measure(&m.first)
	if m.setup == withUnit {
		if n.await(ctx, false) {
			m.detection = time.Since(begun)
		} else if m.fault.detected {
			return errors.Join(errors.New("the unit does not remove hosts.toml"), group.Wait())
		}
		measure(&m.later)
	}
	err = group.Wait()
	if c.drop != nil {
		err = errors.Join(err, c.drop())
	}
	return err
}

// render returns the table.
func render(selected []fault, measurements []*measurement, layers int) string {
	var out strings.Builder
	fmt.Fprintf(&out, "Time that a pull of an image with %d layers loses, by registry client:\n\n", layers)
	width := 0
	for _, fault := range selected {
		width = max(width, len(fault.what))
	}
	row := func(name string, cells ...string) {
		fmt.Fprintf(&out, "%-*s", width, name)
		for _, cell := range cells {
			fmt.Fprintf(&out, "  %17s", cell)
		}
		out.WriteByte('\n')
	}
	for _, major := range majors {
		row("containerd "+find(measurements, selected[0], major, withAgent).version, "node agent", "extension, first", "extension, later", "detected after")
		for _, fault := range selected {
			agent, unit := find(measurements, fault, major, withAgent), find(measurements, fault, major, withUnit)
			detection := "-"
			if unit.detection > 0 {
				detection = fmt.Sprintf("%.1f s", unit.detection.Seconds())
			}
			row(fault.what, agent.first.String(), unit.first.String(), unit.later.String(), detection)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func find(measurements []*measurement, f fault, major int, s setup) *measurement {
	for _, m := range measurements {
		if m.fault.name == f.name && m.major == major && m.setup == s {
			return m
		}
	}
	return nil
}
