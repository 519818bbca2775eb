// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentialstate

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/credentials"
)

// Deployed are the credentials in the files of a cache server.
type Deployed struct {
	// Wanted is the credential that the cache should use; nil for anonymous access.
	Wanted *credentials.Named
	// Previous is the credential that it uses until the upstream accepts Wanted; nil if there is none.
	Previous *credentials.Named
}

// Next returns the credentials to deploy for a wanted one. The last active credential stays beside it until all
// replicas have activated another. It is taken from the deployed Secret, since the owner's may be gone.
func (d Deployed) Next(wanted credentials.Named, status *registry.CredentialsStatus) Deployed {
	last, previous := d.Wanted, d.Previous
	if last != nil && isActive(status, last.Name) {
		previous = nil
	}
	next := Deployed{Wanted: &wanted}
	switch {
	case last == nil:
	case previous == nil && !last.Same(wanted):
		next.Previous = last
	case previous != nil && !previous.Same(wanted):
		next.Previous = previous
	}
	return next
}

// Status returns the status after the deployment of d. It is unchanged as long as the credentials are the same.
func (d Deployed) Status(before *registry.CredentialsStatus, now metav1.Time) *registry.CredentialsStatus {
	if d.Wanted == nil {
		return nil
	}
	status := &registry.CredentialsStatus{
		SecretName: d.Wanted.Name,
		State:      registry.CredentialsPending,
		Since:      now,
		Message:    "no replica has reported yet",
	}
	if d.Previous != nil {
		status.SecretName, status.PendingSecretName = d.Previous.Name, d.Wanted.Name
	}
	switch {
	case before == nil:
		return status
	case isActive(before, d.Wanted.Name) && (d.Previous == nil || d.Previous.Name != d.Wanted.Name):
		// The replicas activated the credential during the deployment. The next one removes the previous credential.
		status = before.DeepCopy()
		status.PreviousSecretName = ""
		if d.Previous != nil {
			status.PreviousSecretName = d.Previous.Name
		}
		return status
	case before.SecretName == status.SecretName && before.PendingSecretName == status.PendingSecretName:
		return before
	}
	return status
}

func isActive(status *registry.CredentialsStatus, name string) bool {
	return status != nil && status.State == registry.CredentialsActive && status.SecretName == name
}
