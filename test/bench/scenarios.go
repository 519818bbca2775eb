// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/upstreamsim"
)

// scenario measures something once and adds it to the table.
type scenario struct {
	name string
	run  func(context.Context, *bench) error
}

var scenarios = []scenario{
	{"cold", cold},
	{"firstbyte", firstByte},
	{"slow", slow},
	{"images", images},
	{"warm", warm},
	{"head", head},
	{"granted", granted},
	{"startup", startup},
}

func scenarioNames() []string {
	names := make([]string, 0, len(scenarios))
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

const (
	mib    = 1 << 20
	gib    = 1 << 30
	maxRSS = 64 // MiB, throughout
)

// cold makes increasing numbers of clients pull an image that the cache does not have.
func cold(ctx context.Context, b *bench) error {
	for _, count := range strings.Split(b.clients, ",") {
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		if err := coldHerd(ctx, b, n); err != nil {
			return fmt.Errorf("%d clients: %w", n, err)
		}
	}
	return nil
}

func coldHerd(ctx context.Context, b *bench, n int) error {
	what := fmt.Sprintf("cold, %d clients: ", n)
	var wallLimit limit
	if n == 64 {
		wallLimit = limit{timesRaw: 1.2}
	}
	transferred := b.table.row(what+"upstream bytes", "%.2f x", limit{value: 1})
	requests := b.table.row(what+"most requests of an object", "%.0f", limit{value: 1})
	// One for the repository; ours requests another at its start, to check the credential.
	tokens := b.table.row(what+"token requests", "%.0f", limit{value: 2})
	wall := b.table.row(what+"wall time", "%.2f s", wallLimit)
	rss := b.table.row(what+"peak RSS", "%.0f MiB", limit{value: maxRSS})

	return b.each(ctx, nil, func(c column, server *cacheprocess.Server) error {
		ready, err := b.herd(ctx, b.files.URL, n)
		if err != nil {
			return fmt.Errorf("file server: %w", err)
		}
		wall.add(raw, ready.Seconds())
		elapsed, err := b.herd(ctx, server.URL(), n)
		if err != nil {
			return err
		}
		counters, err := b.upstream.counters(ctx)
		if err != nil {
			return err
		}
		wall.add(c, elapsed.Seconds())
		transferred.add(c, float64(counters.Bytes)/float64(b.image.Size()))
		requests.add(c, float64(counters.MostRequested()))
		tokens.add(c, float64(counters.Total(upstreamsim.Token)))
		return addRSS(rss, c, server)
	})
}

func addRSS(r *row, c column, server *cacheprocess.Server) error {
	peak, err := server.PeakRSS()
	if err != nil {
		return err
	}
	r.add(c, float64(peak)/mib)
	return nil
}

// slow makes fast clients pull an image that a slow client is already pulling.
func slow(ctx context.Context, b *bench) error {
	const (
		fastClients = 8
		pace        = 1e6 // bytes per second of each of the slow client's blobs
		head        = 100 * time.Millisecond
	)
	ideal := float64(b.image.Size()) / (b.bandwidth * 1e6)
	transferred := b.table.row("8 clients behind a slow one: upstream bytes", "%.2f x", limit{value: 1})
	wall := b.table.row("8 clients behind a slow one: wall time of the upstream's", "%.2f x", limit{value: 1.5, orTimesRaw: 1.2})

	return b.each(ctx, nil, func(c column, server *cacheprocess.Server) error {
		ready, err := b.herd(ctx, b.files.URL, fastClients)
		if err != nil {
			return fmt.Errorf("file server: %w", err)
		}
		wall.add(raw, ready.Seconds()/ideal)

		slowCtx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		defer func() { stop(); <-ended }()
		go func() {
			defer close(ended)
			client := b.client(server.URL())
			defer client.Close()
			client.Parallel, client.BytesPerSecond = b.layers+1, pace
			_, _ = client.Image(slowCtx, imageName, tag) // it is cancelled when the others are done
		}()
		time.Sleep(head)
		elapsed, err := b.herd(ctx, server.URL(), fastClients)
		if err != nil {
			return err
		}
		counters, err := b.upstream.counters(ctx)
		if err != nil {
			return err
		}
		wall.add(c, elapsed.Seconds()/ideal)
		transferred.add(c, float64(counters.Bytes)/float64(b.image.Size()))
		return nil
	})
}
