// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"sync"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
)

// states merges the states of an upstream's keyrings for metrics that are about the upstream: one rejected credential
// makes it rejected, the credentials are active since the last of them is, and pending since the first of them is.
type states struct {
	report func(rejected bool, activeSince, pendingSince time.Time)

	mu        sync.Mutex
	snapshots []keyring.Snapshot
}

func newStates(report func(rejected bool, activeSince, pendingSince time.Time)) *states {
	return &states{report: report}
}

// observer returns the function that takes the snapshots of another keyring.
func (s *states) observer() func(keyring.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.snapshots)
	s.snapshots = append(s.snapshots, keyring.Snapshot{})
	return func(snapshot keyring.Snapshot) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.snapshots[i] = snapshot
		rejected, active, pending := false, time.Time{}, time.Time{}
		for _, snapshot := range s.snapshots {
			rejected = rejected || snapshot.Rejected
			if snapshot.ActiveSince.After(active) {
				active = snapshot.ActiveSince
			}
			if since := snapshot.PendingSince; !since.IsZero() && (pending.IsZero() || since.Before(pending)) {
				pending = since
			}
		}
		s.report(rejected, active, pending)
	}
}
