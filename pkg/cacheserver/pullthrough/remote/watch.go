// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"net/http"
	"time"
)

// Run keeps what the client knows about the upstream up to date while there are no requests, until ctx ends: it probes
// an upstream that is down, drops rate limits whose time window has passed, and forgets idle guests.
func (c *Client) Run(ctx context.Context) {
	ticker := time.NewTicker(maxProbe)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.budgets.expire()
			c.guests.expire(c.now())
			c.recheck(ctx)
		}
	}
}

// recheck repeats the kinds of calls that failed if the upstream is down and requests of clients do not probe it. An
// upstream may respond to other calls while it cannot serve content, so a ping is only used if no call for content has
// failed.
func (c *Client) recheck(ctx context.Context) {
	if !c.health.probe() {
		return
	}
	probes := c.health.probes()
	if len(probes) == 0 {
		probes = []call{{kind: kindPing, method: http.MethodGet, header: http.Header{}}}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.small())
	defer cancel()
	for _, probe := range probes {
		if probe.kind == kindBlob {
			probe.header = http.Header{"Range": {"bytes=0-0"}} // The header of the response is enough.
		}
		resp, err := c.do(ctx, probe)
		if err == nil {
			_ = resp.Body.Close()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// Health returns how the upstream responds.
func (c *Client) Health() Health { return c.health.get() }

// RateLimit returns the rate limit of which the smallest part remains, if the upstream has reported any lately.
func (c *Client) RateLimit() (Budget, bool) { return c.budgets.lowest() }
