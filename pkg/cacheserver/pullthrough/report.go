// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/status"
)

// maxMessage bounds the message about an unreachable upstream.
const maxMessage = 256

// Misses returns the latest events that were not hits, the newest first.
func (e *Engine) Misses() []event.Event { return e.journal.Misses() }

// Repositories returns the repositories at the top of each order, those that most was sent from first.
func (e *Engine) Repositories() []event.Repository { return e.metrics.Repositories.Top() }

// Status returns the state of the upstream, the storage and the credentials.
func (e *Engine) Status() status.Report {
	return status.Report{
		Upstream: e.upstreamStatus(), Storage: e.storageStatus(),
		Credentials: e.Credentials(), RepositoryCredentials: e.RepositoryCredentials(),
	}
}

func (e *Engine) upstreamStatus() status.Upstream {
	s := status.Upstream{
		Host: e.host, Reachable: e.source.Healthy(),
		Failing: e.metrics.Failing(e.options.Now()), RateLimitedAt: e.metrics.RateLimitedAt(),
	}
	if e.client == nil {
		return s
	}
	health := e.client.Health()
	s.Reachable, s.Since, s.Message = health.Up, health.Since, event.Bound(health.Cause, maxMessage)
	if budget, ok := e.client.RateLimit(); ok {
		s.RateLimit = &status.RateLimit{Scope: budget.Scope, Limit: budget.Limit, Remaining: budget.Remaining}
	}
	return s
}

func (e *Engine) storageStatus() status.Storage {
	usage, hangs := e.usage()
	now, bypassedAt, failedAt := e.options.Now(), e.metrics.BypassedAt(), e.metrics.StoreFailedAt()
	if hangs || e.volume.Stuck() {
		failedAt = now
	}
	return status.Storage{
		Used: usage.Used, Size: usage.Size, Free: usage.Free, Full: usage.Full,
		BypassedAt: bypassedAt, Bypassing: status.IsRecent(bypassedAt, now, status.UnstoredWindow),
		FailedAt: failedAt, Failing: status.IsRecent(failedAt, now, status.UnstoredWindow),
	}
}

// usage returns the space of the cache, the last known one while the volume hangs, since asking for it may hang as well,
// or fails.
func (e *Engine) usage() (usage content.Usage, volumeHangs bool) {
	if last := e.lastUsage.Load(); last != nil {
		usage = *last
	}
	if e.volume.Hangs() {
		return usage, true
	}
	found, err := e.content.Usage()
	if err != nil {
		e.log.WithError(err).Warn("Failed to read the size of the volume")
		return usage, false
	}
	e.lastUsage.Store(&found)
	return found, false
}
