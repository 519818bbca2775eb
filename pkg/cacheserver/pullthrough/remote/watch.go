// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"net/http"
	"time"
)

// Run keeps what the client reports about the upstream up to date while there are no requests, until ctx ends: it probes
// an upstream that is down, and drops rate limits whose time window has passed.
func (c *Client) Run(ctx context.Context) {
	ticker := time.NewTicker(maxProbe)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.budgets.expire()
			c.recheck(ctx)
		}
	}
}

// recheck repeats the latest successful pull if the upstream is down and requests of clients do not probe it. An
// upstream may respond to a ping while it cannot serve content, so a ping is only used if there is no such pull.
func (c *Client) recheck(ctx context.Context) {
	if !c.health.probe() {
		return
	}
	probe := call{kind: kindPing, method: http.MethodGet, header: http.Header{}}
	if pulled := c.pulled.latest(everywhere); len(pulled) > 0 {
		probe = pulled[0]
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	if resp, err := c.do(ctx, probe); err == nil {
		_ = resp.Body.Close()
	}
}

// Health returns how the upstream responds.
func (c *Client) Health() Health { return c.health.get() }

// RateLimit returns the rate limit of which the smallest part remains, if the upstream has reported any lately.
func (c *Client) RateLimit() (Budget, bool) { return c.budgets.lowest() }

// everywhere selects all repositories.
func everywhere(string) bool { return true }
