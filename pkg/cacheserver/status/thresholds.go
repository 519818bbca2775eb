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
)
