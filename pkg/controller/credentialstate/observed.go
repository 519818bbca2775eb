// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentialstate

import (
	"cmp"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/credentials"
)

// Replica is a running replica of a cache.
type Replica struct {
	// Name is the name of its pod.
	Name string
	// Report is nil if the replica did not respond.
	Report *credentials.Report
}

// Replicas are all replicas of a cache.
type Replicas struct {
	// Desired is the number of replicas that should run.
	Desired int32
	// Running are the replicas that run.
	Running []Replica
}

// WantedSecret returns the name of the Secret whose credential a cache should use.
func WantedSecret(status *registry.CredentialsStatus) string {
	if status.PendingSecretName != "" {
		return status.PendingSecretName
	}
	return status.SecretName
}

// InProgress reports whether a replacement has not ended: the credential is not active, or its predecessor is deployed.
func InProgress(status *registry.CredentialsStatus) bool {
	return status.State != registry.CredentialsActive || status.PreviousSecretName != ""
}

// Observe returns the status that follows from the reports of the replicas. One replica whose credential is rejected or
// missing decides for all, and the credential is active once all replicas have activated it. Otherwise the state does
// not change, since replicas restart.
func Observe(status registry.CredentialsStatus, replicas Replicas, now metav1.Time) registry.CredentialsStatus {
	next := observe(status, replicas)
	if next.State != status.State || WantedSecret(&next) != WantedSecret(&status) {
		next.Since = now
	}
	return next
}

func observe(status registry.CredentialsStatus, replicas Replicas) registry.CredentialsStatus {
	wanted := WantedSecret(&status)
	active, waitsFor := int32(0), ""
	for _, replica := range replicas.Running {
		switch report := replica.Report; {
		case report == nil:
			waitsFor = fmt.Sprintf("replica %s does not respond yet", replica.Name)
		case report.State == credentials.StateMissing:
			status.State, status.UpstreamStatusCode = registry.CredentialsMissing, nil
			status.Message = fmt.Sprintf("replica %s: %s", replica.Name, report.Message)
			return status
		case cmp.Or(report.PendingSecretName, report.SecretName) != wanted: // The report is about another candidate.
			waitsFor = fmt.Sprintf("replica %s has not received the new credential yet", replica.Name)
		case report.State == credentials.StateRejected:
			status.State, status.UpstreamStatusCode = registry.CredentialsRejected, statusCode(report)
			status.Message = report.Message
			return status
		case report.State != credentials.StateActive:
			waitsFor = report.Message
		default:
			active++
		}
	}
	switch {
	case active >= replicas.Desired && waitsFor == "" && active > 0:
		previous := status.PreviousSecretName
		if status.PendingSecretName != "" {
			previous = status.SecretName
		}
		return registry.CredentialsStatus{SecretName: wanted, PreviousSecretName: previous, State: registry.CredentialsActive, Since: status.Since}
	case status.State != registry.CredentialsPending:
	case waitsFor != "":
		status.Message = waitsFor
	default:
		status.Message = fmt.Sprintf("%d of %d replicas are running", len(replicas.Running), replicas.Desired)
	}
	return status
}

// statusCode returns the status of the upstream, nil if there is none or HTTP does not allow it.
func statusCode(report *credentials.Report) *int32 {
	if report.UpstreamStatusCode < 100 || report.UpstreamStatusCode > 999 {
		return nil
	}
	return new(int32(report.UpstreamStatusCode))
}
