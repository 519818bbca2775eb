// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// defaultWindow is how long a reported rate limit counts if the upstream does not name its time window; maxWindow bounds
// one that it names.
const (
	defaultWindow = 6 * time.Hour
	maxWindow     = 24 * time.Hour
)

// Budget is a rate limit as the upstream last reported it.
type Budget struct {
	// Scope is the path of the repositories that the credential is for, "" for all other repositories.
	Scope            string
	Limit, Remaining int64

	until time.Time
}

// budgets are the rate limits of the latest scopes. When the time window of a report has passed without another one,
// what remains is unknown: without this, an alert about the last value would never end.
type budgets struct {
	now      func() time.Time
	observer Observer

	mu      sync.Mutex
	byScope *simplelru.LRU[string, Budget]
}

func newBudgets(now func() time.Time, observer Observer) *budgets {
	byScope, err := simplelru.NewLRU(maxSessions, func(scope string, _ Budget) { observer.BudgetExpired(scope) })
	if err != nil {
		panic(err) // The size is not positive.
	}
	return &budgets{now: now, observer: observer, byScope: byScope}
}

// note records the rate limit in the header of a response, if there is one.
func (b *budgets) note(scope string, header http.Header) {
	limit, ok := parseLimit(header.Get("RateLimit-Limit"))
	remaining, known := parseLimit(header.Get("RateLimit-Remaining"))
	if !ok || !known || limit == 0 { // No part of nothing can remain.
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	until := b.now().Add(parseWindow(header.Get("RateLimit-Limit")))
	b.byScope.Add(scope, Budget{Scope: scope, Limit: limit, Remaining: remaining, until: until})
	b.observer.Budget(scope, limit, remaining)
}

// expire drops reports whose time window has passed.
func (b *budgets) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, scope := range b.byScope.Keys() {
		if budget, _ := b.byScope.Peek(scope); b.now().After(budget.until) {
			b.byScope.Remove(scope)
		}
	}
}

// lowest returns the budget of which the smallest part remains.
func (b *budgets) lowest() (lowest Budget, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	part := func(budget Budget) float64 { return float64(budget.Remaining) / float64(budget.Limit) }
	for _, budget := range b.byScope.Values() {
		if !ok || part(budget) < part(lowest) {
			lowest, ok = budget, true
		}
	}
	return lowest, ok
}

// parseWindow returns the time window of a RateLimit-Limit header, "100;w=21600".
func parseWindow(header string) time.Duration {
	_, parameters, _ := strings.Cut(header, ";")
	for parameter := range strings.SplitSeq(parameters, ";") {
		value, ok := strings.CutPrefix(strings.TrimSpace(parameter), "w=")
		seconds, err := strconv.ParseInt(value, 10, 32)
		if ok && err == nil && seconds > 0 {
			return min(time.Duration(seconds)*time.Second, maxWindow)
		}
	}
	return defaultWindow
}
