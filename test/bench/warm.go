// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/test/cacheprocess"
)

// warm makes clients repeatedly pull a cached image.
func warm(ctx context.Context, b *bench) error {
	return errors.Join(warmHits(ctx, b, false), warmHits(ctx, b, true))
}

// contender is a server in warmHits.
type contender struct {
	column column
	url    string
	cpu    func() (time.Duration, error)

	pulled  int64
	elapsed time.Duration
	used    time.Duration
}

// warmHits alternates between the servers, so that all find the machine in the same states.
func warmHits(ctx context.Context, b *bench, secure bool) error {
	what, files, cpuLimit := "warm, plain: ", b.files, limit{value: 0.25, orTimesRaw: 0.25 / 0.18}
	if secure {
		what, files, cpuLimit = "warm, TLS: ", b.secureFiles, limit{value: 0.75, orTimesRaw: 0.75 / 0.65}
	}
	cpu := b.table.row(what+"CPU per GiB", "%.2f s", cpuLimit)
	wall := b.table.row(what+"wall time per GiB", "%.2f s", limit{})
	rss := b.table.row(what+"peak RSS", "%.0f MiB", limit{value: maxRSS})

	contenders := []*contender{{
		column: raw, url: files.URL,
		cpu: func() (time.Duration, error) { return cacheprocess.ProcessCPU(files.command.Process.Pid) },
	}}
	for _, implementation := range b.implementations {
		server, err := b.server(implementation, func(config *cacheprocess.Config) { config.TLS = secure })
		if err != nil {
			return err
		}
		defer func() { _ = server.Remove() }()
		if err := server.Start(ctx); err != nil {
			return err
		}
		defer server.Stop()
		if _, err := b.herd(ctx, server.URL(), 1); err != nil {
			return fmt.Errorf("%s: %w", implementation.Name, err)
		}
		contenders = append(contenders, &contender{column: column(implementation.Name), url: server.URL(), cpu: server.CPU})
		defer func() { _ = addRSS(rss, column(implementation.Name), server) }()
	}
	if err := b.takeTurns(ctx, contenders); err != nil {
		return err
	}
	for _, c := range contenders {
		pulled := float64(c.pulled) / gib
		cpu.add(c.column, c.used.Seconds()/pulled)
		wall.add(c.column, c.elapsed.Seconds()/pulled)
	}
	return nil
}

func (b *bench) takeTurns(ctx context.Context, contenders []*contender) error {
	const turns = 4
	for range turns {
		for _, c := range contenders {
			before, err := c.cpu()
			if err != nil {
				return err
			}
			pulled, elapsed, err := b.pullAgain(ctx, c.url, b.warmGiB/turns)
			if err != nil {
				return fmt.Errorf("%s: %w", c.column, err)
			}
			after, err := c.cpu()
			if err != nil {
				return err
			}
			c.pulled, c.elapsed, c.used = c.pulled+pulled, c.elapsed+elapsed, c.used+after-before
		}
	}
	return nil
}

// pullAgain makes four clients pull the image until they have received enough.
func (b *bench) pullAgain(ctx context.Context, url string, enough float64) (int64, time.Duration, error) {
	const clients = 4
	rounds := max(1, int(enough*gib/float64(clients*b.image.Size())))
	group, ctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for range clients {
		group.Go(func() error {
			client := b.client(url)
			defer client.Close()
			for range rounds {
				if _, err := client.Image(ctx, imageName, tag); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return int64(clients*rounds) * b.image.Size(), time.Since(begin), err
}
