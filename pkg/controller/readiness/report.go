// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package readiness

import (
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/status"
)

// Report returns the problem of a running replica as it reports it itself.
func Report(pod string, report *status.Report, now time.Time) Problem {
	switch {
	case report.Storage.Bypassing:
		return problemf(DiskFull, "The volume of pod %s is full, so new content is passed through without being cached. Increase volume.size, or decrease garbageCollection.ttl.", pod)
	case report.Certificate != nil && !report.Certificate.NotAfter.IsZero() && report.Certificate.NotAfter.Sub(now) < status.CertificateMargin:
		return problemf(CertificateExpiring, "The certificate of pod %s is valid until %s and should have been renewed. Fix the errors in the status of the Shoot, and reconcile it.",
			pod, report.Certificate.NotAfter.UTC().Format(time.DateOnly))
	case !report.Upstream.Reachable:
		cause := ""
		if report.Upstream.Message != "" {
			cause = " (" + quote(report.Upstream.Message) + ")"
		}
		return problemf(UpstreamUnreachable, "Pod %s cannot reach the upstream%s, and serves only what it has cached. Check remoteURL, proxy and the network, and whether the upstream is up.", pod, cause)
	}
	return Problem{}
}
