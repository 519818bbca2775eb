// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
)

// head resolves a cached tag again and again.
func head(ctx context.Context, b *bench) error {
	const concurrent = 64
	burst := b.table.row("64 HEADs of a cached tag at once: upstream requests", "%.0f", limit{value: 1})
	requests := b.table.row("HEAD of a cached tag, 16 clients: upstream requests each", "%.2f", limit{})
	cpu := b.table.row("HEAD of a cached tag, 16 clients: CPU each", "%.0f us", limit{})
	err := b.each(ctx, nil, func(c column, server *cacheprocess.Server) error {
		if err := b.heat(ctx, server.URL()); err != nil {
			return err
		}
		time.Sleep(1500 * time.Millisecond) // beyond any freshness window that is on by default
		if err := b.upstream.resetCounters(ctx); err != nil {
			return err
		}
		if err := b.resolve(ctx, server.URL(), concurrent, 1); err != nil {
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

// heat caches the small image.
func (b *bench) heat(ctx context.Context, url string) error {
	client := b.client(url)
	defer client.Close()
	_, err := client.Image(ctx, smallName, tag)
	return err
}

func (b *bench) measureHeads(ctx context.Context, c column, server *cacheprocess.Server, cpu, requests *row) error {
	const clients = 16
	if err := b.upstream.resetCounters(ctx); err != nil {
		return err
	}
	before, err := server.CPU()
	if err != nil {
		return err
	}
	if err := b.resolve(ctx, server.URL(), clients, b.heads/clients); err != nil {
		return err
	}
	after, err := server.CPU()
	if err != nil {
		return err
	}
	counters, err := b.upstream.counters(ctx)
	if err != nil {
		return err
	}
	total := float64(b.heads / clients * clients)
	cpu.add(c, (after-before).Seconds()*1e6/total)
	requests.add(c, float64(counters.Total())/total)
	return nil
}

// resolve lets clients ask for the small image's tag, each so many times.
func (b *bench) resolve(ctx context.Context, url string, clients, times int) error {
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error {
			client := b.client(url)
			defer client.Close()
			for range times {
				if _, err := client.Head(ctx, smallName, tag); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
