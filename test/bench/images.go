// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
)

// manyImages is the number of different images that are pulled concurrently.
const manyImages = 200

func manyTag(n int) string { return fmt.Sprintf("v%d", n) }

// images makes each client pull another image concurrently, first from the upstream and then from the cache.
func images(ctx context.Context, b *bench) error {
	what := fmt.Sprintf("%d images at once: ", manyImages)
	wall := b.table.row(what+"wall time", "%.2f s", limit{})
	rss := b.table.row(what+"peak RSS", "%.0f MiB", limit{})
	return b.each(ctx, nil, func(c column, server *cacheprocess.Server) error {
		for _, cold := range []bool{true, false} {
			var next atomic.Int64
			elapsed, err := b.rush(ctx, rush{url: server.URL(), clients: manyImages, do: func(ctx context.Context, client *pull.Client) error {
				_, err := client.Image(ctx, manyName, manyTag(int(next.Add(1))-1))
				return err
			}})
			if err != nil {
				return err
			}
			if cold {
				wall.add(c, elapsed.Seconds())
			}
		}
		return addRSS(rss, c, server)
	})
}
