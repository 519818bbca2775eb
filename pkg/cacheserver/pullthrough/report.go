// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/status"
)

// Misses returns the latest events that were not hits, the newest first.
func (e *Engine) Misses() []event.Event { return e.journal.Misses() }

// Repositories returns what was served of the repositories that were used most recently.
func (e *Engine) Repositories() []event.Repository { return nil }

// Status returns the state of the upstream, the storage and the credentials.
func (e *Engine) Status() status.Report {
	return status.Report{Upstream: status.Upstream{Host: e.host, Reachable: e.source.Healthy()}, Credentials: e.Credentials()}
}
