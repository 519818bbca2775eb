// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package readiness

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/excerpt"
)

// Reason is the reason of a condition Ready.
type Reason string

// Reasons of a condition that is True.
const (
	// Ready means that all replicas work.
	Ready Reason = "Ready"
	// Degraded means that some replicas work.
	Degraded Reason = "Degraded"
	// ContentTooLarge means that all replicas work, but content does not fit on a volume however much is evicted.
	ContentTooLarge Reason = "ContentTooLarge"
	// AwaitingNodes means that all replicas work, but serve others than nodes until all nodes have their certificate.
	AwaitingNodes Reason = "AwaitingNodes"
)

// Reasons of a condition that is Unknown.
const (
	// Hibernated means that the Shoot is hibernated.
	Hibernated Reason = "Hibernated"
	// ShootUnreachable means that the Shoot's API server has not responded for a while.
	ShootUnreachable Reason = "ShootUnreachable"
	// NotObserved means that the objects of the cache have not been readable for a while.
	NotObserved Reason = "NotObserved"
	// ReportsMissing means that pods are ready, but have not reported for a while whether an earlier problem has ended.
	ReportsMissing Reason = "ReportsMissing"
)

// Reasons of a condition that is False.
const (
	// NoVolume means that a claim is not bound to a volume.
	NoVolume Reason = "NoVolume"
	// ImagePullFailed means that a node cannot pull the image of the cache server.
	ImagePullFailed Reason = "ImagePullFailed"
	// Unschedulable means that no node can run a pod.
	Unschedulable Reason = "Unschedulable"
	// Crashing means that the cache server has exited and is restarted.
	Crashing Reason = "Crashing"
	// ReplicaMissing means that a pod does not exist, has failed, or is being deleted.
	ReplicaMissing Reason = "ReplicaMissing"
	// ReplicaNotReady means that a pod is starting or fails its readiness probe.
	ReplicaNotReady Reason = "ReplicaNotReady"
	// CredentialRejected means that the upstream rejects the credential of the cache.
	CredentialRejected Reason = "CredentialRejected"
	// CredentialMissing means that a replica that needs a credential has none.
	CredentialMissing Reason = "CredentialMissing"
	// NodesUseUpstream means that nodes cannot present their certificate to a cache that serves only nodes.
	NodesUseUpstream Reason = "NodesUseUpstream"
	// UpstreamUnreachable means that the upstream does not respond, so that only cached content is served.
	UpstreamUnreachable Reason = "UpstreamUnreachable"
	// StorageFailing means that content is passed through without being stored because its volume has errors, or that the
	// volume does not respond.
	StorageFailing Reason = "StorageFailing"
	// DiskFull means that content is passed through without being stored because its volume is full.
	DiskFull Reason = "DiskFull"
	// CertificateExpiring means that a certificate was not renewed in time.
	CertificateExpiring Reason = "CertificateExpiring"
)

// problems are the reasons of a condition that is False, the most important one first: a cause before its effects, and
// what keeps the cache from serving before what only makes it fetch more, or will affect it later.
var problems = []Reason{
	NoVolume, ImagePullFailed, Unschedulable, Crashing, ReplicaMissing, ReplicaNotReady,
	CredentialRejected, CredentialMissing, NodesUseUpstream, UpstreamUnreachable, StorageFailing, DiskFull, CertificateExpiring,
}

// Problems returns the reasons of a condition that is False.
func Problems() []Reason { return slices.Clone(problems) }

// MayPass reports whether a problem often ends without an action of the owner: volumes are provisioned, nodes join, pods
// restart, upstreams recover. Credentials, certificates and the hosts of others do not repair themselves.
func (r Reason) MayPass() bool {
	switch r {
	case CredentialRejected, CredentialMissing, NodesUseUpstream, CertificateExpiring:
		return false
	}
	return true
}

// IsReported reports whether a problem is known from the reports of replicas, not from their pods.
func (r Reason) IsReported() bool {
	switch r {
	case UpstreamUnreachable, StorageFailing, DiskFull, CertificateExpiring:
		return true
	}
	return false
}

const (
	// MaxMessage bounds the message of a condition in bytes.
	MaxMessage = 1 << 10
	// maxQuote bounds a text from the Shoot in a message in bytes.
	maxQuote = 256
)

// Problem is why a replica or a cache does not work. The zero value means that it works, and so do [ContentTooLarge] and
// [AwaitingNodes].
type Problem struct {
	Reason Reason
	// Message explains the problem to the owner and names what to do about it.
	Message string
}

func problemf(reason Reason, format string, args ...any) Problem {
	return Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Works reports whether a replica or a cache with this problem works.
func (p Problem) Works() bool {
	return p == Problem{} || p.Reason == ContentTooLarge || p.Reason == AwaitingNodes
}

// Of returns the condition of a cache from the problems of its replicas, at least one, and one that concerns all of
// them.
//
// A cache is ready if one of its replicas works, since each replica serves all pulls: its owner is not affected by the
// others until that one fails too. The message then names the missing one.
func Of(replicas []Problem, common Problem) metav1.Condition {
	working, worst, notice := 0, Problem{}, Problem{}
	if common.Works() {
		notice, common = common, Problem{}
	}
	for _, replica := range replicas {
		switch {
		case replica.Works():
			working++
			notice = cmp.Or(notice, replica)
		case worst == Problem{} || rank(replica.Reason) < rank(worst.Reason):
			worst = replica
		}
	}
	switch {
	case working == 0 && (common == Problem{} || rank(worst.Reason) < rank(common.Reason)):
		return condition(metav1.ConditionFalse, worst.Reason, worst.Message)
	case common != Problem{}:
		return condition(metav1.ConditionFalse, common.Reason, common.Message)
	case working < len(replicas):
		return condition(metav1.ConditionTrue, Degraded, fmt.Sprintf("%d of %d replicas work. %s", working, len(replicas), worst.Message))
	}
	if notice != (Problem{}) {
		return condition(metav1.ConditionTrue, notice.Reason, notice.Message)
	}
	return condition(metav1.ConditionTrue, Ready, "No problem is known.")
}

// Unknown returns the condition of a cache that cannot be observed, which is not a problem of the cache.
func Unknown(reason Reason, message string) metav1.Condition {
	return condition(metav1.ConditionUnknown, reason, message)
}

func condition(status metav1.ConditionStatus, reason Reason, message string) metav1.Condition {
	return metav1.Condition{Type: registry.ConditionReady, Status: status, Reason: string(reason), Message: excerpt.Line(message, MaxMessage)}
}

func rank(reason Reason) int { return slices.Index(problems, reason) }
