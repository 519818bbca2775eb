// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentials

import "time"

// State is the result of checking a credential against its upstream.
type State string

const (
	// StateActive means that the upstream accepted the credential.
	StateActive State = "Active"
	// StatePending means that the result is unknown: the upstream has not been asked yet, or gave no result.
	StatePending State = "Pending"
	// StateRejected means that the upstream rejected the credential.
	StateRejected State = "Rejected"
	// StateMissing means that the credential cannot be read.
	StateMissing State = "Missing"
)

// Reports are a cache server's reports about all its credentials.
type Reports struct {
	// Report is about the credential for all repositories, nil if the upstream is used anonymously.
	*Report
	// Repositories are about the credentials for some repositories, by the prefix of their files (see [Prefix]).
	Repositories map[string]Report `json:"repositories,omitempty"`
}

// Report is a cache server's report about its credential, which does not contain the credential. During a rotation, all
// fields but SecretName are about the candidate: the old credential stays active until the upstream accepts the
// candidate.
type Report struct {
	// SecretName is the name of the Secret whose credential is active.
	SecretName string `json:"secretName,omitempty"`
	// PendingSecretName is the name of the Secret whose credential is the candidate.
	PendingSecretName string `json:"pendingSecretName,omitempty"`
	State             State  `json:"state"`
	// Since is when the state started.
	Since time.Time `json:"since"`
	// UpstreamStatusCode is the HTTP status of the upstream's rejection, if it sent one.
	UpstreamStatusCode int `json:"upstreamStatusCode,omitempty"`
	// Message is the reason of the state.
	Message string `json:"message,omitempty"`
}
