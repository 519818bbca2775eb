// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package status

import "time"

// Thresholds that the status page, the condition Ready and the alerts share, so that they agree.
const (
	// CertificateMargin is the remaining lifetime of a certificate that is worth an alarm. Certificates are valid for 90
	// days and are renewed after 80 % of them, so such a certificate was due four days ago, and reconciliations have
	// failed since.
	CertificateMargin = 14 * 24 * time.Hour
	// LowRateLimit is the part of a rate limit below which it is nearly used up.
	LowRateLimit = 0.1
	// ManyFailures is how many fetches may fail within FailureWindow: some do without a fault that lasts.
	ManyFailures = 5
	// FailureWindow is how long failed fetches and exceeded rate limits count.
	FailureWindow = 15 * time.Minute
	// UnstoredWindow is how long a cache counts as bypassing its volume, or as failing to use it, after a fetch that could
	// not be stored.
	UnstoredWindow = 10 * time.Minute
	// RotationTimeout is how long a candidate may be pending. The cache checks it at least every ten minutes.
	RotationTimeout = 30 * time.Minute
)

// OnlyCached is the consequence of an upstream that does not serve the cache, whatever the cause.
const OnlyCached = "The cache serves only what it has; nodes ask the upstream themselves for the rest."

// IsRecent reports whether something happened within a window before now. The zero time means that it never did. A time
// in the future is that of a clock that was set back, and not recent, or it would be for any time.
func IsRecent(at, now time.Time, window time.Duration) bool {
	age := now.Sub(at)
	return !at.IsZero() && age >= 0 && age < window
}
