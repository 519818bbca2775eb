// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/status"
)

func TestOnlyTimesWithinTheWindowAreRecent(t *testing.T) {
	g := NewWithT(t)
	now := time.Now()
	recent := func(age time.Duration) bool { return status.IsRecent(now.Add(-age), now, time.Minute) }
	g.Expect(recent(0)).To(BeTrue())
	g.Expect(recent(59 * time.Second)).To(BeTrue())
	g.Expect(recent(time.Minute)).To(BeFalse())
	g.Expect(recent(-time.Second)).To(BeFalse(), "the clock was set back")
	g.Expect(status.IsRecent(time.Time{}, time.Time{}, time.Minute)).To(BeFalse())
}

func TestEveryOutcomeCountsForTheHitRatioOrNot(t *testing.T) {
	g := NewWithT(t)
	var cached, fetched []event.Outcome
	for _, outcome := range event.Outcomes() {
		switch {
		case status.IsFromCache(string(outcome)):
			g.Expect(status.IsServed(string(outcome))).To(BeTrue())
			cached = append(cached, outcome)
		case status.IsServed(string(outcome)):
			fetched = append(fetched, outcome)
		}
	}
	g.Expect(cached).To(ConsistOf(event.Hit, event.Stale))
	g.Expect(fetched).To(ConsistOf(event.Miss, event.Joined, event.Bypassed, event.NotStored))
}
