// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	securityv1alpha1constants "github.com/gardener/gardener/pkg/apis/security/v1alpha1/constants"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/reference"
)

const (
	// tokenInterval is how often the tokens of workload identities are looked at. They live for hours, and Gardener
	// replaces them long before they expire, so a watch of all Secrets of a seed would cost more than it gains.
	tokenInterval = 10 * time.Minute
	// deployTime is the time from reading a token until the operation that deploys it ends.
	deployTime = 2 * time.Minute
)

// followTokens has package cache deploy the tokens of workload identities that Gardener has replaced since the last
// operation.
func (r *Reconciler) followTokens(ctx context.Context, ex *extensionsv1alpha1.Extension, shoot *gardencorev1beta1.Shoot) error {
	if ex.Status.LastOperation == nil || !r.tokens.due(client.ObjectKeyFromObject(ex), r.Clock.Now()) {
		return nil
	}
	config, err := r.Codec.DecodeConfig(ex.Spec.ProviderConfig)
	if err != nil {
		return nil //nolint:nilerr // Package cache reports it.
	}
	entries := sets.New[string]()
	for i := range config.Caches {
		for _, credential := range reference.Credentials(&config.Caches[i], nil) {
			entries.Insert(credential.Entry)
		}
	}
	for _, entry := range sets.List(entries) {
		resource := v1beta1helper.GetResourceByName(shoot.Spec.Resources, entry)
		if resource == nil || resource.ResourceRef.Kind != reference.WorkloadIdentityKind {
			continue
		}
		issued, err := r.tokenIssued(ctx, ex.Namespace, resource.ResourceRef.Name)
		if err != nil {
			return err
		}
		if issued.After(ex.Status.LastOperation.LastUpdateTime.Add(-deployTime)) {
			if err := r.requestReconciliation(ctx, ex); err != nil {
				return fmt.Errorf("request deployment of a new token: %w", err)
			}
			return nil
		}
	}
	return nil
}

// tokenIssued returns when Gardener issued the present token of a workload identity, zero if that is unknown.
func (r *Reconciler) tokenIssued(ctx context.Context, namespace, name string) (time.Time, error) {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: namespace, Name: v1beta1constants.ReferencedWorkloadIdentityPrefix + name}
	if err := r.Client.Get(ctx, key, secret); client.IgnoreNotFound(err) != nil {
		return time.Time{}, fmt.Errorf("read token of WorkloadIdentity %q: %w", name, err)
	}
	issued, _ := credentials.TokenTime(string(secret.Data[securityv1alpha1constants.DataKeyToken]), credentials.ClaimIssued)
	return issued, nil
}

// tokenLooks records when the tokens of an Extension were looked at last. It is not persistent: the time of the last
// operation tells whether a token has been deployed.
type tokenLooks struct {
	mu   sync.Mutex
	last map[types.NamespacedName]time.Time
}

// due reports whether a look is due, which then counts as made.
func (t *tokenLooks) due(extension types.NamespacedName, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.last[extension]; ok && now.Sub(last) < tokenInterval {
		return false
	}
	if t.last == nil {
		t.last = map[types.NamespacedName]time.Time{}
	}
	t.last[extension] = now
	return true
}

// end forgets an Extension.
func (t *tokenLooks) end(extension types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.last, extension)
}
