// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// measureNew measures the reconciliation of a new Shoot.
func (b *bench) measureNew(ctx context.Context) (err error) {
	const heading = "A new Shoot"
	if b.leader, err = b.program.start(b.server, "new"); err != nil {
		return err
	}
	if err := b.leader.awaitReady(ctx); err != nil {
		return err
	}
	if _, err := b.leader.cpu(); err != nil {
		return err
	}
	start := time.Now()
	first := b.healthy[0]
	if err := b.create(ctx, []*shoot{first}); err != nil {
		return err
	}
	if err := first.await(ctx, b.server.client); err != nil {
		return err
	}
	cpu, err := b.leader.cpu()
	if err != nil {
		return err
	}
	b.set(heading, "reconciled after", "%.1f s", time.Since(start).Seconds())
	b.set(heading, "CPU, most of it for the keys of certificates", "%.1f s", cpu)
	requests, err := b.requests(func(r record) bool { return r.namespace == first.namespace })
	if err != nil {
		return err
	}
	b.set(heading, "requests to the seed", "%d", requests.sum(func(r request) bool { return r.seed }))
	b.set(heading, "requests to the Shoot", "%d", requests.sum(func(r request) bool { return !r.seed }))
	return b.leader.stop(syscall.SIGTERM)
}

// measureStorm measures the reconciliation of all Shoots after the start.
func (b *bench) measureStorm(ctx context.Context) (err error) {
	const heading = "Start with all Shoots to be reconciled"
	start := time.Now()
	if b.leader, err = b.program.start(b.server, "first"); err != nil {
		return err
	}
	if err := b.awaitAll(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	cpu, requests, err := b.spent()
	if err != nil {
		return err
	}
	if err := b.awaitSettled(ctx); err != nil {
		return err
	}
	_, peak, err := b.leader.rss()
	if err != nil {
		return err
	}
	b.set(heading, "all reconciled after", "%.1f s", took.Seconds())
	b.set(heading, "CPU", "%.1f s", cpu)
	b.set(heading, "memory (RSS), maximum", "%.0f MiB", peak)
	b.set(heading, "requests to the seed, for each Shoot", "%.1f", b.each(requests.sum(func(r request) bool { return r.seed && !r.lease() })))
	b.set(heading, "requests to the Shoot", "%.1f", b.each(requests.sum(func(r request) bool { return !r.seed })))
	return nil
}

// measureUnchanged measures reconciliations that have nothing to change, one after the other.
func (b *bench) measureUnchanged(ctx context.Context) error {
	const heading = "Reconciliation of an unchanged Shoot"
	latencies := make([]time.Duration, 0, samples)
	var requests []counts
	for i := range samples {
		shoot := b.healthy[i*len(b.healthy)/samples]
		if _, err := b.server.audit.Read(); err != nil {
			return err
		}
		latency, err := b.reconcile(ctx, shoot)
		if err != nil {
			return err
		}
		latencies = append(latencies, latency)
		sample, err := b.requests(func(r record) bool { return r.namespace == shoot.namespace })
		if err != nil {
			return err
		}
		requests = append(requests, sample)
	}
	slices.Sort(latencies)
	median := medians(requests)
	b.report.list(heading, median)
	b.set(heading, "takes", "%.0f ms", float64(latencies[len(latencies)/2].Milliseconds()))
	b.set(heading, "requests to the seed", "%d", median.sum(func(r request) bool { return r.seed }))
	b.set(heading, "requests to the Shoot", "%d", median.sum(func(r request) bool { return !r.seed }))
	b.set(heading, fmt.Sprintf("writes, apart from %d of Gardener's library", libraryWrites), "%d", median.sum(request.writes)-libraryWrites)
	return sleep(ctx, settling)
}

// measureRest measures the extension while nothing changes.
func (b *bench) measureRest(ctx context.Context) error {
	const heading = "A minute at rest"
	if _, _, err := b.spent(); err != nil {
		return err
	}
	if err := sleep(ctx, b.rest); err != nil {
		return err
	}
	cpu, requests, err := b.spent()
	if err != nil {
		return err
	}
	rss, _, err := b.leader.rss()
	if err != nil {
		return err
	}
	minutes := b.rest.Minutes()
	b.report.list(heading, requests)
	b.set(heading, "CPU", "%.2f s", cpu/minutes)
	b.set(heading, "memory (RSS)", "%.0f MiB", rss)
	b.set(heading, "requests to the seed, for each Shoot", "%.1f", b.each(requests.sum(func(r request) bool { return r.seed && !r.lease() }))/minutes)
	b.set(heading, "requests to the Shoot", "%.1f", b.each(requests.sum(func(r request) bool { return !r.seed }))/minutes)
	b.set(heading, "writes, all Shoots", "%.0f", float64(requests.sum(func(r request) bool { return r.writes() && !r.lease() }))/minutes)
	b.set(heading, "writes of leases: leader election and heartbeat", "%.0f", float64(requests.sum(func(r request) bool { return r.writes() && r.lease() }))/minutes)
	return nil
}

// measureRestart measures an update of the extension, with nothing to reconcile.
func (b *bench) measureRestart(ctx context.Context) (err error) {
	const heading = "Restart with nothing to be reconciled"
	start := time.Now()
	if err := b.leader.stop(syscall.SIGTERM); err != nil {
		return err
	}
	if b.leader, err = b.program.start(b.server, "second"); err != nil {
		return err
	}
	if err := b.leader.awaitReady(ctx); err != nil {
		return err
	}
	ready := time.Since(start)
	if _, err := b.reconcile(ctx, b.healthy[0]); err != nil {
		return err
	}
	reconciles := time.Since(start)
	if err := sleep(ctx, b.rest-time.Since(start)); err != nil {
		return err
	}
	cpu, requests, err := b.spent()
	if err != nil {
		return err
	}
	_, peak, err := b.leader.rss()
	if err != nil {
		return err
	}
	b.set(heading, "ready after", "%.1f s", ready.Seconds())
	b.set(heading, "reconciles after", "%.1f s", reconciles.Seconds())
	b.set(heading, "CPU, first minute", "%.1f s", cpu)
	b.set(heading, "memory (RSS), maximum", "%.0f MiB", peak)
	b.set(heading, "writes, first minute, apart from leases", "%d", requests.sum(func(r request) bool { return r.writes() && !r.lease() })-libraryWrites)
	return nil
}

// measureFailover measures how long Shoots wait for another leader.
func (b *bench) measureFailover(ctx context.Context) (err error) {
	const heading = "The leader is killed"
	if b.standby, err = b.program.start(b.server, "standby"); err != nil {
		return err
	}
	if err := b.standby.awaitReady(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, settling); err != nil {
		return err
	}
	rss, _, err := b.standby.rss()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := b.leader.stop(syscall.SIGKILL); err != nil {
		return err
	}
	if _, err := b.reconcile(ctx, b.healthy[0]); err != nil {
		return err
	}
	b.set(heading, "memory (RSS) of the other process before", "%.0f MiB", rss)
	b.set(heading, "the other process reconciles after", "%.1f s", time.Since(start).Seconds())
	return nil
}
