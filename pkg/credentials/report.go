// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import "time"

// State is how a credential gets along with its upstream.
type State string

const (
	// StateActive means that the upstream accepted the credential.
	StateActive State = "Active"
	// StatePending means that the upstream has not been asked yet, or gave no verdict.
	StatePending State = "Pending"
	// StateRejected means that the upstream refused the credential.
	StateRejected State = "Rejected"
	// StateMissing means that there is no credential where one should be.
	StateMissing State = "Missing"
)

// Report is what a cache server tells about its credential, and nothing of it.
// While one credential takes the place of another, all but SecretName is about
// the new one: the old one stays in use until the upstream accepts its successor.
type Report struct {
	// SecretName is the name of the Secret whose credential is in use.
	SecretName string `json:"secretName,omitempty"`
	// PendingSecretName is the name of the Secret whose credential is to take its place.
	PendingSecretName string `json:"pendingSecretName,omitempty"`
	State             State  `json:"state"`
	// Since is when the state began.
	Since time.Time `json:"since"`
	// UpstreamStatusCode is the HTTP status that the upstream refused the credential with, if it answered.
	UpstreamStatusCode int `json:"upstreamStatusCode,omitempty"`
	// Message says what the upstream has against the credential.
	Message string `json:"message,omitempty"`
}
