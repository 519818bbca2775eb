// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecret

import "slices"

const (
	// Port is the port of the controller for its report and its probes.
	Port = 5001
	// ReportPath is the path of the [Report].
	ReportPath = "/debug/pull-secrets"
	// HealthPath is the path of the probes.
	HealthPath = "/debug/health"
	// MaxListed bounds the namespaces that a report lists for a Secret and a problem.
	MaxListed = 4
	// MaxReason bounds the texts of a report.
	MaxReason = 128
	// MaxReport bounds the report in bytes, with problems of all pull secrets and accounts.
	MaxReport = 64 << 10
)

// Report is what the controller reports. Its length is bounded.
type Report struct {
	// Feed is the [Digest] of the feed that the controller follows; empty if it has none yet.
	Feed string `json:"feed"`
	// Outstanding is the number of namespaces that do not follow the feed yet.
	Outstanding int `json:"outstanding"`
	// Unissued is the number of credentials of the feed for which no attempt to issue them has ended yet.
	Unissued int `json:"unissued,omitempty"`
	// References are the namespaces whose default ServiceAccount could not be updated: it lacks a reference, or still has
	// one to a pull secret that is no longer in the feed.
	References Namespaces `json:"references"`
	// ReferencesReason is why, in one of them.
	ReferencesReason string `json:"referencesReason,omitempty"`
	// Secrets has the pull secrets and the Secrets of accounts with problems.
	Secrets []SecretReport `json:"secrets,omitempty"`
}

// SecretReport describes the problems of a pull secret, or of the Secret of an account.
type SecretReport struct {
	Name string `json:"name"`
	// Pending reports whether the password of an account is not in use yet, since servers get it first.
	Pending bool `json:"pending,omitempty"`
	// Foreign are the namespaces in which a Secret of somebody else has the name.
	Foreign Namespaces `json:"foreign"`
	// Failed are the namespaces in which it could not be written.
	Failed Namespaces `json:"failed"`
	// Reason is why it could not be written in one of them.
	Reason string `json:"reason,omitempty"`
	// Unreferenced are the namespaces whose default ServiceAccount lacks a reference to it.
	Unreferenced Namespaces `json:"unreferenced"`
	// Credential is why a credential of a pull secret could not be issued.
	Credential string `json:"credential,omitempty"`
	// Storage is why the passwords of a cache's accounts could not be stored.
	Storage string `json:"storage,omitempty"`
}

// Namespaces are some namespaces.
type Namespaces struct {
	// Listed has the names of the first of them, up to [MaxListed].
	Listed []string `json:"listed,omitempty"`
	Count  int      `json:"count"`
}

// Add adds a namespace. The names must come in a stable order, so that the report is stable.
func (n *Namespaces) Add(name string) {
	n.Count++
	if len(n.Listed) < MaxListed {
		n.Listed = append(n.Listed, name)
	}
}

// Follows reports whether all namespaces have been reconciled with the feed with the digest.
func (r Report) Follows(feed string) bool {
	return r.Feed == feed && r.Unissued == 0 && r.Outstanding == 0
}

// Done reports whether all namespaces have what the feed with the digest describes, and nothing else. Foreign Secrets do
// not hinder that.
func (r Report) Done(feed string) bool {
	isFailing := func(secret SecretReport) bool {
		return secret.Failed.Count > 0 || secret.Credential != "" || secret.Storage != ""
	}
	return r.Follows(feed) && r.References.Count == 0 && !slices.ContainsFunc(r.Secrets, isFailing)
}
