// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/credentials"
)

// Replica is what one replica of a cache says.
type Replica struct {
	// Name is the name of its pod.
	Name string
	// Report is nil if it gave none.
	Report *credentials.Report
}

// Replicas are all replicas of a cache.
type Replicas struct {
	// Wanted is how many there should be.
	Wanted int32
	// Running are those that run.
	Running []Replica
}

// Wanted returns the name of the Secret whose credentials a cache should use.
func Wanted(status *registry.CredentialsStatus) string {
	if status.PendingSecretName != "" {
		return status.PendingSecretName
	}
	return status.SecretName
}

// judge returns the state that follows from what the replicas say. One that
// rejects or misses the credentials is enough for the whole, and for the
// credentials to be active it takes all. Whatever is between that changes no
// state: replicas may come and go.
func judge(status registry.CredentialsStatus, replicas Replicas, now metav1.Time) registry.CredentialsStatus {
	next := verdict(status, replicas)
	if next.State != status.State || Wanted(&next) != Wanted(&status) {
		next.Since = now
	}
	return next
}

func verdict(status registry.CredentialsStatus, replicas Replicas) registry.CredentialsStatus {
	wanted := Wanted(&status)
	active, waitsFor := int32(0), ""
	for _, replica := range replicas.Running {
		switch report := replica.Report; {
		case report == nil:
			waitsFor = fmt.Sprintf("replica %s does not answer yet", replica.Name)
		case report.State == credentials.StateMissing:
			status.State, status.UpstreamStatusCode = registry.CredentialsMissing, nil
			status.Message = fmt.Sprintf("replica %s: %s", replica.Name, report.Message)
			return status
		case report.SecretName != wanted && report.PendingSecretName != wanted:
			waitsFor = fmt.Sprintf("replica %s has not got the new credentials yet", replica.Name)
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
	case active >= replicas.Wanted && waitsFor == "" && active > 0:
		previous := status.PreviousSecretName
		if status.PendingSecretName != "" {
			previous = status.SecretName
		}
		return registry.CredentialsStatus{SecretName: wanted, PreviousSecretName: previous, State: registry.CredentialsActive, Since: status.Since}
	case status.State != registry.CredentialsPending:
	case waitsFor != "":
		status.Message = waitsFor
	default:
		status.Message = fmt.Sprintf("%d of %d replicas are running", len(replicas.Running), replicas.Wanted)
	}
	return status
}

func statusCode(report *credentials.Report) *int32 {
	if report.UpstreamStatusCode < 100 || report.UpstreamStatusCode > 999 { // It answered nothing, or nothing that HTTP knows.
		return nil
	}
	return new(int32(report.UpstreamStatusCode))
}
