// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/larder-project/larder/test/cacheprocess"
)

// granted compares a cache that asks for pull secrets with one that any client may read, once the upstream has allowed
// the client to pull. Only this project's server has that mode.
func granted(ctx context.Context, b *bench) error {
	var failures []error
	for _, implementation := range b.implementations {
		if implementation.Name == cacheprocess.Ours {
			failures = append(failures, b.compareGranted(ctx, implementation))
		}
	}
	return errors.Join(failures...)
}

func (b *bench) compareGranted(ctx context.Context, implementation cacheprocess.Implementation) error {
	c := column(implementation.Name)
	pull := b.table.row("granted warm pull, TLS: CPU of a pull from an open cache", "%.2f x", limit{value: 1.1})
	heads := b.table.row("granted HEAD, TLS, within the freshness window: CPU of an open cache's", "%.2f x", limit{value: 1.5})
	each := b.table.row("granted HEAD, TLS, within the freshness window: CPU each", "%.0f us", limit{})
	requests := b.table.row("granted warm pulls and HEADs: upstream requests", "%.0f", limit{value: 1})

	request := http.Request{Header: http.Header{}}
	request.SetBasicAuth(username, password)
	b.authorization = request.Header.Get("Authorization")
	defer func() { b.authorization = "" }()

	contenders := make([]*contender, 0, 2)
	for _, mode := range []string{"Cluster", "PullSecrets"} {
		server, err := b.server(implementation, func(config *cacheprocess.Config) {
			config.TLS = true
			config.Options = cacheprocess.Options{
				"freshness": "1h", "access": map[string]any{"mode": mode, "grantduration": "1h"},
			}
		})
		if err != nil {
			return err
		}
		defer func() { _ = server.Remove() }()
		if err := server.Start(ctx); err != nil {
			return err
		}
		defer server.Stop()
		if _, err := b.herd(ctx, server.URL(), 1); err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
		contenders = append(contenders, &contender{column: column(mode), url: server.URL(), cpu: server.CPU})
	}
	if err := b.upstream.resetCounters(ctx); err != nil {
		return err
	}
	if err := b.takeTurns(ctx, contenders); err != nil {
		return err
	}
	open, gated := contenders[0], contenders[1]
	pull.add(c, gated.perByte()/open.perByte())

	ofOpen, err := b.costOfHead(ctx, open.url, open.cpu)
	if err != nil {
		return err
	}
	ofGated, err := b.costOfHead(ctx, gated.url, gated.cpu)
	if err != nil {
		return err
	}
	heads.add(c, ofGated/ofOpen)
	each.add(c, ofGated)
	counters, err := b.upstream.counters(ctx)
	requests.add(c, float64(counters.Total()))
	return err
}

// perByte returns the processor time of a byte.
func (c *contender) perByte() float64 {
	return float64(c.used) / float64(time.Second) / float64(c.pulled)
}
