// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/credentials"
)

func full(text string) status.Report {
	far := time.Date(9999, time.December, 31, 23, 59, 59, 999999999, time.FixedZone("", -12*3600))
	return status.Report{
		Upstream: status.Upstream{
			Host: text, Since: far, Message: text, RateLimitedAt: far,
			RateLimit: &status.RateLimit{Scope: text, Limit: -1 << 63, Remaining: -1 << 63},
		},
		Storage:     status.Storage{Used: -1 << 63, Size: -1 << 63, Free: -1 << 63, BypassedAt: far, FailedAt: far},
		Certificate: &status.Certificate{NotAfter: far},
		Credentials: &credentials.Report{
			SecretName: text, PendingSecretName: text, State: credentials.State(text), Since: far, UpstreamStatusCode: -1 << 63, Message: text,
		},
	}
}

func TestBoundedReportFitsWhateverItsTextsContain(t *testing.T) {
	for _, text := range []string{"x", "<", "\x01", "x\xff", "\u2028", `"`, "é"} {
		g := NewWithT(t)
		encoded, err := json.Marshal(full(strings.Repeat(text, 1<<20)).Bounded())
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(len(encoded)).To(And(BeNumerically("<", status.MaxSize), BeNumerically(">", 1000)), "%q", text)
	}
}

func TestBoundingKeepsAReportOfUsualSize(t *testing.T) {
	g := NewWithT(t)
	report := full(strings.Repeat("x", 253))
	g.Expect(report.Bounded()).To(Equal(report))
	g.Expect(status.Report{}.Bounded()).To(Equal(status.Report{}))
}

func TestBoundingDoesNotChangeTheOriginal(t *testing.T) {
	g := NewWithT(t)
	report := full(strings.Repeat("x", 1000))
	report.Bounded()
	g.Expect(report.Credentials.Message).To(HaveLen(1000))
	g.Expect(report.Upstream.RateLimit.Scope).To(HaveLen(1000))
}
