// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"fmt"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
)

// Snapshot is the state of a Keyring.
type Snapshot struct {
	// Report describes the candidate, or the active credentials if there is none.
	Report credentials.Report
	// Rejected means that the upstream rejects the wanted credentials, or that it rejects the active ones, so that
	// pulls fail, while the result for the candidate is unknown.
	Rejected bool
	// ActiveSince is when the upstream accepted the active credentials, zero if it has not.
	ActiveSince time.Time
	// PendingSince is since when a candidate waits for the upstream to accept it, zero if there is none.
	PendingSince time.Time
	// Expiry is when the active credential expires, zero if it was not issued.
	Expiry time.Time
}

// Report returns the state, nil if the upstream is used anonymously.
func (k *Keyring) Report() *credentials.Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	if k.anonymous() {
		return nil
	}
	return new(k.snapshot().Report)
}

func (k *Keyring) anonymous() bool {
	return k.active != nil && k.active.set.isAnonymous() && k.candidate == nil
}

func (k *Keyring) snapshot() Snapshot {
	if k.active == nil {
		return Snapshot{Report: credentials.Report{State: credentials.StateMissing, Since: k.since, Message: k.missing.Error()}}
	}
	wanted := k.active
	report := credentials.Report{SecretName: k.active.set.Name}
	if k.candidate != nil {
		wanted, report.PendingSecretName = k.candidate, k.candidate.set.Name
	}
	report.State, report.Since, report.UpstreamStatusCode, report.Message = wanted.state, wanted.since, wanted.status, wanted.message
	if k.stuck() {
		report.Message = k.active.rejection() + "; the candidate is not confirmed: " + report.Message
	}
	if k.missing != nil {
		report.State, report.Since, report.UpstreamStatusCode = credentials.StateMissing, k.since, 0
		report.Message = k.missing.Error() + "; the last valid one stays active"
	}
	snapshot := Snapshot{Report: report, Rejected: report.State == credentials.StateRejected || k.missing == nil && k.stuck()}
	if k.candidate != nil {
		snapshot.PendingSince = k.candidate.wanted
	}
	if k.active.state == credentials.StateActive {
		snapshot.ActiveSince = k.active.since
	}
	if renewer := k.active.renewer; renewer != nil {
		snapshot.Expiry = renewer.Expiry()
	}
	return snapshot
}

// stuck reports whether the upstream rejects the active credentials while the result for the candidate is unknown. The
// report is about the wanted credentials, so it stays Pending.
func (k *Keyring) stuck() bool {
	return k.candidate != nil && k.candidate.state == credentials.StatePending && k.active.state == credentials.StateRejected
}

// rejection describes that the upstream rejects the active credentials.
func (e *entry) rejection() string {
	if e.status == 0 {
		return "the upstream rejects the active credential"
	}
	return fmt.Sprintf("the upstream rejects the active credential with status %d", e.status)
}
