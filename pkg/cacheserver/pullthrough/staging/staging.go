// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package staging lets one credential take the place of another without a failed pull.
//
// A Keyring always has credentials in use, and may have others that are to follow them. Those are tried at the upstream
// first. If it accepts them, they are in use from then on, and the old ones are forgotten with all tokens that were got
// with them; requests that run end as they began. If it refuses them, or gives no verdict, the old ones stay in use, and
// the others are tried again, less and less often, but soon when the old ones are refused. The first credentials that
// there are have nothing to follow: they are in use whatever the upstream says.
//
// A Keyring tells who is in use, who waits and what the upstream says to it, by name.
package staging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/utils/clock"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/keyring"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/credentials"
)

// Source is where credentials come from. Its implementations are keyring.Files and keyring.Static.
type Source interface {
	// Read returns what there is, or was when it could be read last.
	Read() (*keyring.Contents, error)
}

// Upstream judges credentials. Its implementation is remote.Client.
type Upstream interface {
	// Try returns nil if candidates can take the place of the present credentials. The error is remote.Unasked if the
	// upstream has shown no interest in them.
	Try(ctx context.Context, candidates, present remote.CredentialSet) error
	// Retain forgets all other credentials.
	Retain(set remote.CredentialSet)
}

const (
	// pollInterval is how often the source is looked at when nobody pulls.
	pollInterval = 5 * time.Second
	// accepted credentials are tried again after this time, to know before a pull does that they no longer work.
	confirmInterval = 10 * time.Minute
	// doubtInterval is the least time between two trials of credentials that pulls were refused with.
	doubtInterval = 15 * time.Second
	// Credentials without a verdict, and refused ones, are tried again after times that double.
	minRetry, maxRetry             = time.Second, time.Minute
	minRejectedRetry, maxRejection = 30 * time.Second, 10 * time.Minute
	// unaskedWait is how long the upstream has time to ask for a credential that is to follow another one.
	unaskedWait = 10 * time.Minute
)

// Keyring hands out credentials. It is an remote.Credentials.
type Keyring struct {
	source  Source
	clock   clock.Clock
	log     logrus.FieldLogger
	observe func(Snapshot)

	// wake ends a wait of Run.
	wake chan struct{}

	mu      sync.Mutex
	current *held // nil as long as nothing could be read
	next    *held // nil unless it is to take the place of current
	missing error
	since   time.Time // when missing became an error
}

// held is a set of credentials, and what the upstream says to it.
type held struct {
	set     keyring.Set
	state   credentials.State
	since   time.Time
	status  int
	message string

	due   time.Time     // when to try it again
	delay time.Duration // that was waited before
	tried time.Time
}

// Snapshot is the state of a Keyring.
type Snapshot struct {
	// Report is what is told about it.
	Report credentials.Report
	// Rejected says that the upstream rejects what is wanted, or what is in use, so that pulls fail, while nothing is known
	// about what waits.
	Rejected bool
	// ActiveSince is when the upstream accepted the credentials in use, zero if it has not.
	ActiveSince time.Time
}

// New returns a Keyring. Observe is called with each change of its state, and must not block.
func New(source Source, clock clock.Clock, log logrus.FieldLogger, observe func(Snapshot)) *Keyring {
	k := &Keyring{source: source, clock: clock, log: log, observe: observe, wake: make(chan struct{}, 1)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	return k
}

// For implements remote.Credentials.
func (k *Keyring) For(ctx context.Context, repository string) (string, credentials.Credential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	if k.current == nil {
		return "", credentials.Credential{}, k.missing
	}
	return k.current.set.For(ctx, repository)
}

// Refused is to be told when the upstream refused the credentials in use. They are tried soon then, and before them those
// that are to follow, which may be good by now.
func (k *Keyring) Refused() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil {
		return
	}
	k.hurry(k.current)
	if k.next != nil {
		k.hurry(k.next)
	}
}

func (k *Keyring) hurry(h *held) {
	if due := h.tried.Add(doubtInterval); due.Before(h.due) {
		h.due = due
		k.rouse()
	}
}

// Report tells the state. It returns nil if the upstream is used anonymously.
func (k *Keyring) Report() *credentials.Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	if k.anonymous() {
		return nil
	}
	report := k.snapshot().Report
	return &report
}

func (k *Keyring) anonymous() bool {
	return k.current != nil && len(k.current.set.All()) == 0 && k.next == nil
}

func (k *Keyring) snapshot() Snapshot {
	if k.current == nil {
		return Snapshot{Report: credentials.Report{State: credentials.StateMissing, Since: k.since, Message: k.missing.Error()}}
	}
	told := k.current
	report := credentials.Report{SecretName: k.current.set.Name}
	if k.next != nil {
		told, report.PendingSecretName = k.next, k.next.set.Name
	}
	report.State, report.Since, report.UpstreamStatusCode, report.Message = told.state, told.since, told.status, told.message
	if k.stuck() {
		report.Message = k.current.refusal() + "; the new one waits: " + report.Message
	}
	if k.missing != nil {
		report.State, report.Since, report.UpstreamStatusCode = credentials.StateMissing, k.since, 0
		report.Message = k.missing.Error() + "; the last credential that could be read is in use"
	}
	snapshot := Snapshot{Report: report, Rejected: report.State == credentials.StateRejected || k.missing == nil && k.stuck()}
	if k.current.state == credentials.StateActive {
		snapshot.ActiveSince = k.current.since
	}
	return snapshot
}

// stuck says whether the upstream refuses the credentials in use, and has given no verdict on those that wait. That is no
// verdict on what is wanted, so the report stays Pending.
func (k *Keyring) stuck() bool {
	return k.next != nil && k.next.state == credentials.StatePending && k.current.state == credentials.StateRejected
}

// refusal says that the upstream refuses the credentials in use.
func (h *held) refusal() string {
	if h.status == 0 {
		return "the upstream refuses the credential in use"
	}
	return fmt.Sprintf("the upstream refuses the credential in use with status %d", h.status)
}

// refresh looks at the source.
func (k *Keyring) refresh() {
	contents, err := k.source.Read()
	changed := (err == nil) != (k.missing == nil)
	if changed {
		k.missing, k.since = nil, k.clock.Now()
	}
	if changed && err != nil {
		// The original may quote what it could not parse.
		k.missing = errMissing
		k.log.Error("The credential cannot be read")
	}
	if contents != nil && k.adopt(*contents) || changed {
		k.tell()
	}
}

var errMissing = errors.New("the credential cannot be read")

// adopt takes over what the source holds, and says whether that is a change.
func (k *Keyring) adopt(contents keyring.Contents) bool {
	wanted := contents.Wanted
	switch {
	case k.current == nil && contents.Previous != nil && !contents.Previous.Same(wanted):
		// This process is new, the rotation is not.
		k.current, k.next = k.hold(*contents.Previous), k.hold(wanted)
	case k.current == nil:
		k.current = k.hold(wanted)
	case k.current.set.Same(wanted):
		// What was to follow is no longer wanted, or it is the same under another name.
		if k.next == nil && k.current.set.Name == wanted.Name {
			return false
		}
		k.current.set, k.next = wanted, nil
	case k.next != nil && k.next.set.Same(wanted) && k.next.set.Name == wanted.Name:
		return false
	default:
		k.next = k.hold(wanted)
		k.log.WithField("secret", wanted.Name).Info("There is a new credential, it is tried before it is used")
	}
	k.rouse()
	return true
}

func (k *Keyring) hold(set keyring.Set) *held {
	now := k.clock.Now()
	return &held{set: set, state: credentials.StatePending, since: now, due: now, message: "the upstream has not been asked yet"}
}

func (k *Keyring) rouse() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keyring) tell() {
	if k.observe != nil && !k.anonymous() {
		k.observe(k.snapshot())
	}
}
