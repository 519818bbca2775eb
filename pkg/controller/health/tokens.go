// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"sync"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/reference"
)

// tokenInterval is how often the tokens of workload identities are looked at. They live for hours, and Gardener replaces
// them long before they expire, so a watch of all Secrets of a seed would cost more than it gains.
const tokenInterval = 10 * time.Minute

// followTokens has package cache deploy tokens of workload identities that differ from those that it has deployed last.
func (r *Reconciler) followTokens(ctx context.Context, ex *extensionsv1alpha1.Extension, cluster *extensionscontroller.Cluster) error {
	// Nothing is deployed while a Shoot is hibernated, and everything when it wakes up.
	if ex.Status.LastOperation == nil || extensionscontroller.IsHibernationEnabled(cluster) || !r.tokens.due(client.ObjectKeyFromObject(ex), r.Clock.Now()) {
		return nil
	}
	config, err := r.Codec.DecodeConfig(ex.Spec.ProviderConfig)
	if err != nil {
		return nil //nolint:nilerr // Package cache reports it.
	}
	var entries []string
	for i := range config.Caches {
		for _, credential := range reference.Credentials(&config.Caches[i], nil) {
			entries = append(entries, credential.Entry)
		}
	}
	present, err := reference.Reader{Client: r.Client, Namespace: ex.Namespace, Shoot: cluster.Shoot}.TokenDigest(ctx, entries)
	if err != nil || present == "" {
		return err
	}
	managedResource := &metav1.PartialObjectMetadata{}
	managedResource.SetGroupVersionKind(resourcesv1alpha1.SchemeGroupVersion.WithKind("ManagedResource"))
	key := client.ObjectKey{Namespace: ex.Namespace, Name: r.ManagedResource}
	if err := r.Client.Get(ctx, key, managedResource); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read ManagedResource %s: %w", key.Name, err)
	}
	if managedResource.Annotations[reference.TokensAnnotation] == present {
		return nil
	}
	if err := r.requestReconciliation(ctx, ex); err != nil {
		return fmt.Errorf("request deployment of a new token: %w", err)
	}
	return nil
}

// tokenLooks records when the tokens of an Extension were looked at last. It is not persistent: the
// ManagedResource shows whether a token has been deployed.
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
