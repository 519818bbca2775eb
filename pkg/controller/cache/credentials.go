// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
)

// A credential changes in two steps: the new one is deployed beside the one that
// was used so far, and when all replicas have taken it over, as package rotation
// finds out, the old one is removed. What was used so far is known from what is
// deployed: the owner's Secret may be gone.

// maxCredential is more than any credential has, and than HTTP servers take in a header.
const maxCredential = 64 << 10

// stageCredentials returns the caches with the credentials that they go on with
// until their upstreams accept the new ones.
func (a *Actuator) stageCredentials(ctx context.Context, shoot client.Client, ex *extensionsv1alpha1.Extension, caches []component.Values) ([]component.Values, error) {
	_, statuses, err := a.credentialsStatus(ctx, ex)
	if err != nil {
		return nil, err
	}
	staged := make([]component.Values, 0, len(caches))
	for _, cache := range caches {
		if cache.Credential != nil {
			deployed, err := deployedCredentials(ctx, shoot, cache.Name())
			if err != nil {
				return nil, err
			}
			cache.PreviousCredential = previousCredential(*cache.Credential, deployed, statuses[cache.Cache.Upstream])
		}
		staged = append(staged, cache)
	}
	return staged, nil
}

// deployedCredentials returns what lies in the Shoot for the cache with the given name.
func deployedCredentials(ctx context.Context, shoot client.Client, cacheName string) (map[string][]byte, error) {
	secret := &corev1.Secret{}
	name := component.CredentialsSecretName(cacheName)
	if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, secret); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read Secret %s in the Shoot: %w", name, err)
	}
	return secret.Data, nil
}

// credentialsStatus returns the Extension as it is now, and what its provider
// status says about the credentials, by upstream.
func (a *Actuator) credentialsStatus(ctx context.Context, ex *extensionsv1alpha1.Extension) (*extensionsv1alpha1.Extension, map[string]*registry.CredentialsStatus, error) {
	present := &extensionsv1alpha1.Extension{}
	if err := a.Client.Get(ctx, client.ObjectKeyFromObject(ex), present); err != nil {
		return nil, nil, fmt.Errorf("could not read the provider status: %w", err)
	}
	status, err := a.Codec.DecodeStatus(present.Status.ProviderStatus)
	if errors.Is(err, codec.ErrMissing) {
		return present, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("could not decode the provider status: %w", err)
	}
	statuses := make(map[string]*registry.CredentialsStatus, len(status.Caches))
	for _, cache := range status.Caches {
		statuses[cache.Upstream] = cache.Credentials
	}
	return present, statuses, nil
}

// previousCredential returns the credential to keep beside the wanted one: the
// last one that was in use, as long as not all replicas have accepted another.
// It returns nil if there is none.
func previousCredential(wanted credentials.Named, deployed map[string][]byte, status *registry.CredentialsStatus) *credentials.Named {
	last, previous := credentials.FromFiles(deployed)
	if previous != nil && !plausible(*previous) {
		previous = nil
	}
	switch {
	case last == nil || !plausible(*last):
		return nil
	case isActive(status, last.Name):
		// Nobody needs what was before it.
		previous = nil
	}
	switch {
	case previous == nil && *last != wanted:
		return last
	case previous == nil || *previous == wanted:
		return nil
	}
	return previous
}

// plausible reports whether a credential can have been deployed here, and not by the owner of the Shoot: it goes into
// the provider status and back into the Shoot.
func plausible(credential credentials.Named) bool {
	return len(credential.Name) <= validation.DNS1123SubdomainMaxLength && len(credential.Username)+len(credential.Password) <= maxCredential
}

func isActive(status *registry.CredentialsStatus, name string) bool {
	return status != nil && status.State == registry.CredentialsActive && status.SecretName == name
}

// stagedStatus returns what to say about the credential of a cache that has just
// been deployed: what was said before, as long as it is about the same one, or
// the cache has been kept as it was.
func stagedStatus(before *registry.CredentialsStatus, cache component.Values, now metav1.Time) *registry.CredentialsStatus {
	if cache.Kept != nil {
		return before
	}
	wanted, previous := cache.Credential, cache.PreviousCredential
	if wanted == nil {
		return nil
	}
	status := &registry.CredentialsStatus{
		SecretName: wanted.Name,
		State:      registry.CredentialsPending,
		Since:      now,
		Message:    "the replicas have not been asked yet",
	}
	if previous != nil {
		status.SecretName, status.PendingSecretName = previous.Name, wanted.Name
	}
	switch {
	case before == nil:
		return status
	case isActive(before, wanted.Name) && (previous == nil || previous.Name != wanted.Name):
		// The replicas have taken them over while this was on its way. What was before them goes with the next turn.
		status = before.DeepCopy()
		status.PreviousSecretName = ""
		if previous != nil {
			status.PreviousSecretName = previous.Name
		}
		return status
	case before.SecretName == status.SecretName && before.PendingSecretName == status.PendingSecretName:
		return before
	}
	return status
}
