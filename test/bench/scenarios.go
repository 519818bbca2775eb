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

	"golang.org/x/sync/errgroup"

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
	{"warm", warm},
	{"head", head},
	{"startup", startup},
}

func scenarioNames() []string {
	var names []string
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

// cold lets ever more clients pull an image that the cache does not have.
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
	tokens := b.table.row(what+"token requests", "%.0f", limit{value: 1})
	wall := b.table.row(what+"wall time", "%.2f s", wallLimit)
	rss := b.table.row(what+"peak RSS", "%.0f MiB", limit{value: maxRSS})

	elapsed, err := b.herd(ctx, b.files.URL, n)
	if err != nil {
		return fmt.Errorf("file server: %w", err)
	}
	wall.add(raw, elapsed.Seconds())

	return b.each(ctx, nil, func(c column, server *cacheprocess.Server) error {
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

// slow lets fast clients pull what a slow one has begun to pull.
func slow(ctx context.Context, b *bench) error {
	const (
		fastClients = 8
		pace        = 1e6 // bytes per second of each of the slow client's blobs
		head        = 100 * time.Millisecond
	)
	ideal := float64(b.image.Size()) / (b.bandwidth * 1e6)
	transferred := b.table.row("8 clients behind a slow one: upstream bytes", "%.2f x", limit{value: 1})
	wall := b.table.row("8 clients behind a slow one: wall time of the upstream's", "%.2f x", limit{value: 1.5, orTimesRaw: 1.2})

	elapsed, err := b.herd(ctx, b.files.URL, fastClients)
	if err != nil {
		return err
	}
	wall.add(raw, elapsed.Seconds()/ideal)
	return b.each(ctx, nil, func(c column, server *cacheprocess.Server) error {
		slowCtx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		defer func() { stop(); <-ended }()
		go func() {
			defer close(ended)
			client := b.client(server.URL())
			defer client.Close()
			client.Parallel, client.BytesPerSecond = b.layers+1, pace
			_, _ = client.Image(slowCtx, imageName, tag) // it is cut off when the others are done
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

// warm lets clients pull again and again what the cache has.
func warm(ctx context.Context, b *bench) error {
	for _, secure := range []bool{false, true} {
		if err := warmHits(ctx, b, secure); err != nil {
			return err
		}
	}
	return nil
}

func warmHits(ctx context.Context, b *bench, secure bool) error {
	what, files, cpuLimit := "warm, plain: ", b.files, limit{value: 0.25}
	if secure {
		what, files, cpuLimit = "warm, TLS: ", b.secureFiles, limit{value: 0.75}
	}
	cpu := b.table.row(what+"CPU per GiB", "%.2f s", cpuLimit)
	wall := b.table.row(what+"wall time per GiB", "%.2f s", limit{})
	rss := b.table.row(what+"peak RSS", "%.0f MiB", limit{value: maxRSS})

	measure := func(c column, url string, used func() (time.Duration, error)) error {
		before, err := used()
		if err != nil {
			return err
		}
		bytes, elapsed, err := b.pullAgain(ctx, url)
		if err != nil {
			return err
		}
		after, err := used()
		cpu.add(c, (after-before).Seconds()/(float64(bytes)/gib))
		wall.add(c, elapsed.Seconds()/(float64(bytes)/gib))
		return err
	}
	fileServerCPU := func() (time.Duration, error) { return cacheprocess.ProcessCPU(files.command.Process.Pid) }
	if err := measure(raw, files.URL, fileServerCPU); err != nil {
		return fmt.Errorf("file server: %w", err)
	}
	useTLS := func(config *cacheprocess.Config) { config.TLS = secure }
	return b.each(ctx, useTLS, func(c column, server *cacheprocess.Server) error {
		if _, err := b.herd(ctx, server.URL(), 1); err != nil {
			return err
		}
		if err := measure(c, server.URL(), server.CPU); err != nil {
			return err
		}
		return addRSS(rss, c, server)
	})
}

// pullAgain lets four clients pull the image until they have got enough.
func (b *bench) pullAgain(ctx context.Context, url string) (int64, time.Duration, error) {
	const clients = 4
	rounds := max(1, int(b.warmGiB*gib/float64(clients*b.image.Size())))
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
