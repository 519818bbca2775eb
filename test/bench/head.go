// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
)

// head repeatedly resolves a cached tag.
func head(ctx context.Context, b *bench) error {
	const concurrent = 64
	burst := b.table.row("64 HEADs of a cached tag at once: upstream requests", "%.0f", limit{value: 1})
	requests := b.table.row("HEAD of a cached tag, 16 clients: upstream requests each", "%.2f", limit{})
	cpu := b.table.row("HEAD of a cached tag, 16 clients: CPU each", "%.0f us", limit{})
	err := b.each(ctx, nil, func(c column, server *cacheprocess.Server) error {
		if err := b.heat(ctx, server.URL()); err != nil {
			return err
		}
		time.Sleep(1500 * time.Millisecond) // beyond any default freshness window
		if err := b.upstream.resetCounters(ctx); err != nil {
			return err
		}
		if _, err := b.rush(ctx, rush{
			url: server.URL(), clients: concurrent,
			prepare: func(ctx context.Context, client *pull.Client) error { return client.Ping(ctx) }, // To connect.
			do: func(ctx context.Context, client *pull.Client) error {
				_, err := client.Head(ctx, imageName, tag)
				return err
			},
		}); err != nil {
			return err
		}
		counters, err := b.upstream.counters(ctx)
		if err != nil {
			return err
		}
		burst.add(c, float64(counters.Total()))
		return b.measureHeads(ctx, c, server, cpu, requests)
	})
	if err != nil {
		return err
	}

	fresh := b.table.row("HEAD within the freshness window: upstream requests each", "%.2f", limit{value: 0.001})
	freshCPU := b.table.row("HEAD within the freshness window: CPU each", "%.0f us", limit{value: 100})
	withWindow := func(config *cacheprocess.Config) { config.Options = cacheprocess.Options{"freshness": "1m"} }
	return b.each(ctx, withWindow, func(c column, server *cacheprocess.Server) error {
		if err := b.heat(ctx, server.URL()); err != nil {
			return err
		}
		return b.measureHeads(ctx, c, server, freshCPU, fresh)
	})
}

// heat caches the image's manifest.
func (b *bench) heat(ctx context.Context, url string) error {
	client := b.client(url)
	defer client.Close()
	_, err := client.Manifest(ctx, imageName, tag)
	return err
}

// measureHeads measures HEADs of the image's tag, and the file server's first.
func (b *bench) measureHeads(ctx context.Context, c column, server *cacheprocess.Server, cpu, requests *row) error {
	fileServerCPU := func() (time.Duration, error) { return cacheprocess.ProcessCPU(b.files.command.Process.Pid) }
	each, err := b.costOfHead(ctx, b.files.URL, fileServerCPU)
	if err != nil {
		return err
	}
	cpu.add(raw, each)
	if err := b.upstream.resetCounters(ctx); err != nil {
		return err
	}
	if each, err = b.costOfHead(ctx, server.URL(), server.CPU); err != nil {
		return err
	}
	cpu.add(c, each)
	counters, err := b.upstream.counters(ctx)
	requests.add(c, float64(counters.Total())/float64(b.heads/headClients*headClients))
	return err
}

// headClients is the number of concurrent clients.
const headClients = 16

// costOfHead returns the processor time of each HEAD in microseconds.
func (b *bench) costOfHead(ctx context.Context, url string, used func() (time.Duration, error)) (float64, error) {
	before, err := used()
	if err != nil {
		return 0, err
	}
	if err := b.resolve(ctx, url, headClients, b.heads/headClients); err != nil {
		return 0, err
	}
	after, err := used()
	return (after - before).Seconds() * 1e6 / float64(b.heads/headClients*headClients), err
}

// resolve makes each client resolve the image's tag a number of times.
func (b *bench) resolve(ctx context.Context, url string, clients, times int) error {
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error {
			client := b.client(url)
			defer client.Close()
			for range times {
				if _, err := client.Head(ctx, imageName, tag); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
