// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package readiness

import (
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/status"
)

// Report returns the problem of a running replica as it reports it itself, the most important one.
func Report(pod string, report *status.Report, now time.Time) Problem {
	switch {
	case !report.Upstream.Reachable:
		cause := ""
		if report.Upstream.Message != "" {
			cause = " (" + quote(report.Upstream.Message) + ")"
		}
		return problemf(UpstreamUnreachable, "Pod %s cannot reach the upstream%s. "+status.OnlyCached+
			" Check remoteURL, proxy and the network, and the status of the upstream.", pod, cause)
	case report.Storage.Failing:
		return problemf(StorageFailing, `Pod %s cannot store new content on its volume, and passes it through, or refuses requests while the volume does not respond. "kubectl -n kube-system logs %[1]s" shows the errors.`, pod)
	case report.Storage.Bypassing && report.Storage.Full:
		return problemf(DiskFull, "The volume of pod %s is full, so new content is passed through without being cached. Increase volume.size, or decrease garbageCollection.ttl.", pod)
	case report.Certificate != nil && !report.Certificate.NotAfter.IsZero() && report.Certificate.NotAfter.Sub(now) < status.CertificateMargin:
		return expiring(pod, report.Certificate.NotAfter, now)
	case report.Storage.Bypassing:
		return problemf(ContentTooLarge, "The cache works, but some content does not fit on the volume of pod %s and is passed through without being cached. Increase volume.size to cache it.", pod)
	}
	return Problem{}
}

func expiring(pod string, notAfter, now time.Time) Problem {
	const remedy = "Fix the errors in the status of the Shoot, and reconcile it."
	date := notAfter.UTC().Format(time.DateOnly)
	if notAfter.Before(now) {
		return problemf(CertificateExpiring, "The certificate of pod %s expired on %s, so nodes bypass the cache. %s", pod, date, remedy)
	}
	return problemf(CertificateExpiring, "The certificate of pod %s is valid until %s and should have been renewed. Nodes bypass the cache once it has expired. %s", pod, date, remedy)
}
