// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/utils/kubernetes/health"
	"github.com/gardener/gardener/pkg/utils/managedresources"
	"github.com/gardener/gardener/pkg/utils/retry"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/reference"
)

const (
	// ManagedResourceServices is the name of the ManagedResource with the Services.
	ManagedResourceServices = "extension-registry-cache-services"
	// ManagedResource is the name of the ManagedResource with everything else.
	ManagedResource = "extension-registry-cache"
	// largeSuffix is the suffix of the name of the Secret with the large objects of a ManagedResource.
	largeSuffix = "-large"
	// Origin marks the ManagedResources as this extension's.
	Origin = "registry-cache"

	pollInterval = time.Second
	// waitTimeout bounds every wait. It is shorter than the library's timeout of a reconciliation, so that the error
	// names the object of the wait.
	waitTimeout = 2 * time.Minute
)

// deployCaches deploys all objects of the caches but the Services. Those with the content of owners' Secrets for
// connections, which have several times the size of all others, are in a Secret of their own: one holds 1 MiB.
func (a *Actuator) deployCaches(ctx context.Context, namespace string, caches []deployment, extra metadata) error {
	var objects, connections []client.Object
	for _, cache := range caches {
		cacheObjects, err := cache.objects()
		if err != nil {
			return err
		}
		for _, object := range cacheObjects {
			if component.IsConnectionSecret(object) {
				connections = append(connections, object)
			} else {
				objects = append(objects, object)
			}
		}
	}
	return a.deploy(ctx, namespace, ManagedResource, objects, &extra, connections...)
}

// tokenAnnotations returns the annotation with the digest of the tokens that are deployed, nil if there are none.
func tokenAnnotations(digest string) map[string]string {
	if digest == "" {
		return nil
	}
	return map[string]string{reference.TokensAnnotation: digest}
}

// deployedObjects returns the objects of the caches as last deployed, by the names of the caches.
func (a *Actuator) deployedObjects(ctx context.Context, namespace string) (map[string][]client.Object, error) {
	objects, err := readObjects(ctx, a.Client, namespace, ManagedResource)
	if err != nil {
		return nil, err
	}
	deployed := map[string][]client.Object{}
	for _, object := range objects {
		name := component.NameOf(object)
		deployed[name] = append(deployed[name], object)
	}
	return deployed, nil
}

// readObjects returns the objects of a ManagedResource, none if it does not exist or is being deleted.
func readObjects(ctx context.Context, seed client.Client, namespace, name string) ([]client.Object, error) {
	managedResource := newManagedResource(namespace, name)
	if err := seed.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read ManagedResource %s: %w", name, err)
	}
	if managedResource.DeletionTimestamp != nil {
		return nil, nil
	}
	var all []client.Object
	for _, reference := range managedResource.Spec.SecretRefs {
		secret := &corev1.Secret{}
		if err := seed.Get(ctx, client.ObjectKey{Namespace: namespace, Name: reference.Name}, secret); err != nil {
			return nil, fmt.Errorf("read Secret of ManagedResource %s: %w", name, err)
		}
		objects, err := managedresources.ExtractObjectsFromSecret(kubernetes.ShootCodec.UniversalDeserializer(), secret)
		if err != nil {
			return nil, fmt.Errorf("decode objects of ManagedResource %s: %w", name, err)
		}
		all = append(all, objects...)
	}
	return all, nil
}

// deployedSince returns the time of the last change to the deployed objects, or zero if gardener-resource-manager has
// not applied it yet. The Secrets of a ManagedResource are immutable, so their creation is the deployment.
func (a *Actuator) deployedSince(ctx context.Context, namespace string) (time.Time, error) {
	managedResource := newManagedResource(namespace, ManagedResource)
	if err := a.Client.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource); err != nil {
		return time.Time{}, fmt.Errorf("read ManagedResource %s: %w", ManagedResource, err)
	}
	if health.CheckManagedResourceApplied(managedResource) != nil {
		return time.Time{}, nil
	}
	var since time.Time
	for _, reference := range managedResource.Spec.SecretRefs {
		secret := &metav1.PartialObjectMetadata{}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		if err := a.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: reference.Name}, secret); err != nil {
			return time.Time{}, fmt.Errorf("read Secret of ManagedResource %s: %w", ManagedResource, err)
		}
		if secret.CreationTimestamp.After(since) {
			since = secret.CreationTimestamp.Time
		}
	}
	return since, nil
}

// metadata are labels and annotations of a ManagedResource.
type metadata struct{ labels, annotations map[string]string }

// deploy creates or updates a ManagedResource with additional metadata, from a Secret for the objects, and another one
// for large objects if there are any. The claims of a StatefulSet are deleted with it.
func (a *Actuator) deploy(ctx context.Context, namespace, name string, objects []client.Object, extra *metadata, large ...client.Object) error {
	if err := a.waitUntilNotDeleting(ctx, namespace, name); err != nil {
		return err
	}
	secretName, err := a.deploySecret(ctx, namespace, name, objects)
	if err != nil {
		return err
	}
	managedResource := managedresources.NewForShoot(a.Client, namespace, name, Origin, false).
		WithSecretRef(secretName).
		DeletePersistentVolumeClaims(true)
	if extra != nil {
		managedResource.WithLabels(extra.labels).WithAnnotations(extra.annotations)
	}
	if len(large) > 0 {
		if secretName, err = a.deploySecret(ctx, namespace, name+largeSuffix, large); err != nil {
			return err
		}
		managedResource.WithSecretRef(secretName)
	}
	if err := managedResource.Reconcile(ctx); err != nil {
		return fmt.Errorf("deploy ManagedResource %s: %w", name, err)
	}
	return nil
}

// deploySecret creates a Secret with objects of a ManagedResource, and returns its name.
func (a *Actuator) deploySecret(ctx context.Context, namespace, name string, objects []client.Object) (string, error) {
	data, err := serialize(objects)
	if err != nil {
		return "", fmt.Errorf("serialize objects of ManagedResource %s: %w", name, err)
	}
	if size := sizeOf(data); size > corev1.MaxSecretSize {
		return "", problem.Configuration(fmt.Errorf("the objects of ManagedResource %s have %d bytes after compression, more than the maximum of %d; use fewer or smaller %s", name, size, corev1.MaxSecretSize, contentOf(name)))
	}
	secretName, secret := managedresources.NewSecret(a.Client, namespace, name, data, true)
	if err := secret.WithLabels(map[string]string{managedresources.LabelKeyOrigin: Origin}).Reconcile(ctx); err != nil {
		return "", fmt.Errorf("deploy Secret of ManagedResource %s: %w", name, err)
	}
	return secretName, nil
}

// contentOf returns what takes the space in the Secret of a ManagedResource, and owners can change.
func contentOf(name string) string {
	switch name {
	case ManagedResource:
		return "credentials"
	case ManagedResource + largeSuffix:
		return "CA bundles, client certificates and credentials for proxies"
	case ManagedResourcePullSecrets:
		return "credentials for pull secrets"
	}
	return "caches"
}

func sizeOf(data map[string][]byte) int {
	size := 0
	for _, value := range data {
		size += len(value)
	}
	return size
}

// serializing is held by [serialize].
var serializing sync.Mutex

// serialize returns the data of a ManagedResource's Secret. The compression takes 10 MiB for a few milliseconds, so one
// reconciliation compresses at a time.
func serialize(objects []client.Object) (map[string][]byte, error) {
	serializing.Lock()
	defer serializing.Unlock()
	return managedresources.
		NewRegistry(kubernetes.ShootScheme, kubernetes.ShootCodec, kubernetes.ShootSerializer).
		AddAllAndSerialize(objects...)
}

// waitUntilNotDeleting waits until a ManagedResource that is being deleted is gone, as after the extension was disabled
// and enabled again: changes to it would be lost.
func (a *Actuator) waitUntilNotDeleting(ctx context.Context, namespace, name string) error {
	managedResource := newManagedResource(namespace, name)
	if err := a.Client.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read ManagedResource %s: %w", name, err)
	}
	if managedResource.DeletionTimestamp == nil {
		return nil
	}
	return a.waitUntilDeleted(ctx, namespace, name)
}

func (a *Actuator) waitUntilDeleted(ctx context.Context, namespace, name string) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	if err := managedresources.WaitUntilDeleted(ctx, a.Client, namespace, name); err != nil {
		return fmt.Errorf("wait for the deletion of ManagedResource %s: %w", name, err)
	}
	return nil
}

func (a *Actuator) waitUntilHealthy(ctx context.Context, namespace, name string) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	managedResource := newManagedResource(namespace, name)
	if err := retry.Until(ctx, pollInterval, func(ctx context.Context) (bool, error) {
		if err := a.Client.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource); err != nil {
			return retry.SevereError(err)
		}
		if err := health.CheckManagedResource(managedResource); err != nil {
			return retry.MinorError(err)
		}
		return retry.Ok()
	}); err != nil {
		return fmt.Errorf("wait for ManagedResource %s to become healthy: %w", name, err)
	}
	return nil
}

// applyAgain makes gardener-resource-manager apply the caches at once, not with its next resync.
func (a *Actuator) applyAgain(ctx context.Context, namespace string) error {
	managedResource := newManagedResource(namespace, ManagedResource)
	patch := client.MergeFrom(managedResource.DeepCopy())
	metav1.SetMetaDataAnnotation(&managedResource.ObjectMeta, v1beta1constants.GardenerOperation, v1beta1constants.GardenerOperationReconcile)
	if err := a.Client.Patch(ctx, managedResource, patch); err != nil {
		return fmt.Errorf("annotate ManagedResource %s: %w", ManagedResource, err)
	}
	return nil
}

func (a *Actuator) keepObjects(ctx context.Context, namespace string) error {
	for _, name := range managedResourceNames() {
		if err := managedresources.SetKeepObjects(ctx, a.Client, namespace, name, true); err != nil {
			return err
		}
	}
	return nil
}

// removeManagedResources deletes the ManagedResources; with wait, it waits for the deletion of each before the next.
func (a *Actuator) removeManagedResources(ctx context.Context, namespace string, wait bool) error {
	for _, name := range managedResourceNames() {
		if err := a.removeManagedResource(ctx, namespace, name, wait); err != nil {
			return err
		}
	}
	return nil
}

func (a *Actuator) removeManagedResource(ctx context.Context, namespace, name string, wait bool) error {
	if err := managedresources.DeleteForShoot(ctx, a.Client, namespace, name); err != nil {
		return fmt.Errorf("delete ManagedResource %s: %w", name, err)
	}
	if !wait {
		return nil
	}
	return a.waitUntilDeleted(ctx, namespace, name)
}

// managedResourceNames returns the names in the order of deletion. The Services are deleted last: a Service without pods
// rejects the connection of a node at once, while an unassigned cluster IP lets it time out.
func managedResourceNames() []string {
	return append([]string{ManagedResourcePullSecrets}, requiredManagedResourceNames()...)
}

// requiredManagedResourceNames returns the names of the ManagedResources of every Shoot with caches.
func requiredManagedResourceNames() []string {
	return []string{ManagedResource, ManagedResourceServices}
}

func newManagedResource(namespace, name string) *resourcesv1alpha1.ManagedResource {
	return &resourcesv1alpha1.ManagedResource{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}
