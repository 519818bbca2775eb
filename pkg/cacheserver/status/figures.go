// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"slices"
	"strings"
)

// Titles of the numbers with which both the status page and the dashboard of a Shoot begin.
const (
	TitleHitRatio        = "Hit ratio"
	TitleBytesSaved      = "Bytes saved"
	TitleUpstreamLatency = "Upstream latency"
	TitleFailedFetches   = "Failed fetches"
	TitleRateLimit       = "Rate limit"
)

// FirstRow returns these titles in their order.
func FirstRow() []string {
	return []string{TitleHitRatio, TitleBytesSaved, TitleUpstreamLatency, TitleFailedFetches, TitleRateLimit}
}

// Titles of the tables of repositories. Each says by what the repositories are ordered.
const (
	TitleByBytesServed  = "Repositories by bytes served"
	TitleByBytesFetched = "Repositories by bytes fetched"
	TitleByFetchTime    = "Repositories by mean fetch time"
)

// The hit ratio is the part of the served requests for manifests and blobs that were served from the cache. Both are
// regular expressions for the label outcome of registry_proxy_outcomes_total, whose values are those of the log.
const (
	// OutcomesFromCache are the outcomes of requests served from the cache.
	OutcomesFromCache = "hit|stale"
	// OutcomesUnserved are the outcomes of requests that got no content, or not all of it.
	OutcomesUnserved = "canceled|notFound|denied|failed"
)

// FailuresElsewhere is a regular expression for the label reason of registry_proxy_fill_errors_total. Such failures are no
// failed fetches on the page, the dashboard and in alerts: rejected credentials and rate limits are shown apart, and
// anyone can ask for images that do not exist or are private.
const FailuresElsewhere = "not_found|unauthorized|rate_limited|canceled"

// IsFailureElsewhere reports whether FailuresElsewhere matches a reason.
func IsFailureElsewhere(reason string) bool { return matches(FailuresElsewhere, reason) }

// IsFromCache reports whether OutcomesFromCache matches an outcome.
func IsFromCache(outcome string) bool { return matches(OutcomesFromCache, outcome) }

// IsServed reports whether OutcomesUnserved does not match an outcome.
func IsServed(outcome string) bool { return !matches(OutcomesUnserved, outcome) }

// matches reports whether an expression, which only lists alternatives, matches a value.
func matches(expression, value string) bool {
	return slices.Contains(strings.Split(expression, "|"), value)
}
