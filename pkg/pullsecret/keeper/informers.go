// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/larder-project/larder/pkg/pullsecret"
)

// watch is an informer of the Secrets with one name.
type watch struct {
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
}

// addInformers adds the informers that run as long as the controller. Lists and watches of Secrets and ServiceAccounts
// select a name, as the controller's permissions require.
func (k *Keeper) addInformers(ctx context.Context) error {
	k.feeds = coreinformers.NewFilteredSecretInformer(k.Client, pullsecret.Namespace, 0, nil, named(pullsecret.FeedName))
	k.namespaces = coreinformers.NewNamespaceInformer(k.Client, 0, nil)
	k.accounts = coreinformers.NewFilteredServiceAccountInformer(k.Client, metav1.NamespaceAll, 0, nil, named(pullsecret.DefaultServiceAccount))
	for informer, setup := range map[cache.SharedIndexInformer]struct {
		transform cache.TransformFunc
		changed   func(object metav1.Object)
	}{
		k.feeds:      {onlyFeed, func(object metav1.Object) { k.feedChanged(ctx, object.(*corev1.Secret)) }},
		k.namespaces: {onlyLabels, func(object metav1.Object) { k.queue.Add(object.GetName()) }},
		k.accounts:   {onlyReferences, func(object metav1.Object) { k.queue.Add(object.GetNamespace()) }},
	} {
		if err := k.setUp(informer, setup.transform, setup.changed); err != nil {
			return err
		}
	}
	return nil
}

// setUp sets up an informer that has not started.
func (k *Keeper) setUp(informer cache.SharedIndexInformer, transform cache.TransformFunc, changed func(metav1.Object)) error {
	if err := informer.SetTransform(transform); err != nil {
		return fmt.Errorf("set up informer: %w", err)
	}
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		k.Log.Info("Failed to watch objects; trying again", "reason", reason(err))
	}); err != nil {
		return fmt.Errorf("set up informer: %w", err)
	}
	notify := func(object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		if object, ok := object.(metav1.Object); ok {
			changed(object)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    notify,
		UpdateFunc: func(_, object any) { notify(object) },
		DeleteFunc: notify,
	})
	if err != nil {
		return fmt.Errorf("set up informer: %w", err)
	}
	return nil
}

// feedChanged follows the feed in a Secret. A feed that is deleted or invalid changes nothing: the extension deletes it
// after the report shows that it was followed.
func (k *Keeper) feedChanged(ctx context.Context, secret *corev1.Secret) {
	encoded, ok := secret.Data[pullsecret.FeedKey]
	if !ok || secret.DeletionTimestamp != nil {
		return
	}
	if err := k.follow(ctx, encoded); err != nil {
		k.Log.Error(err, "Failed to follow the feed completely")
	}
}

// watchSecrets watches the Secrets with the given names and no others. The caller holds k.mu.
func (k *Keeper) watchSecrets(ctx context.Context, names []string) {
	for name, watched := range k.secrets {
		if !slices.Contains(names, name) {
			watched.stop()
			delete(k.secrets, name)
		}
	}
	for _, name := range names {
		if k.secrets[name] != nil {
			continue
		}
		informer := coreinformers.NewFilteredSecretInformer(k.Client, metav1.NamespaceAll, 0, nil, named(name))
		if err := k.setUp(informer, dropContent, func(object metav1.Object) { k.queue.Add(object.GetNamespace()) }); err != nil {
			k.Log.Error(err, "Failed to watch pull secrets", "name", name)
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		k.secrets[name] = &watch{informer: informer, stop: stop}
		go informer.RunWithContext(ctx)
		go func() {
			if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
				k.enqueueAll()
			}
		}()
	}
}

// present returns the Secret with a name in a namespace, nil if there is none.
func (k *Keeper) present(namespace, name string) (*corev1.Secret, error) {
	k.mu.Lock()
	watched := k.secrets[name]
	k.mu.Unlock()
	if watched == nil || !watched.informer.HasSynced() {
		return nil, errNotSynced
	}
	object, exists, err := watched.informer.GetStore().GetByKey(namespace + "/" + name)
	if err != nil || !exists {
		return nil, err
	}
	return object.(*corev1.Secret), nil
}

// enqueueAll reconciles all namespaces.
func (k *Keeper) enqueueAll() {
	for _, namespace := range k.namespaces.GetStore().ListKeys() {
		k.queue.Add(namespace)
	}
}

// named selects the objects with a name.
func named(name string) func(*metav1.ListOptions) {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	return func(options *metav1.ListOptions) { options.FieldSelector = selector }
}

// The transformers below bound memory: informers keep only what is read.

func onlyFeed(object any) (any, error) {
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return object, nil
	}
	return &corev1.Secret{ObjectMeta: identify(secret), Data: map[string][]byte{pullsecret.FeedKey: secret.Data[pullsecret.FeedKey]}}, nil
}

func onlyLabels(object any) (any, error) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return object, nil
	}
	meta := identify(namespace)
	meta.Labels = namespace.Labels
	return &corev1.Namespace{ObjectMeta: meta}, nil
}

func onlyReferences(object any) (any, error) {
	account, ok := object.(*corev1.ServiceAccount)
	if !ok {
		return object, nil
	}
	meta := identify(account)
	if recorded, ok := account.Annotations[pullsecret.ReferencesAnnotation]; ok {
		meta.Annotations = map[string]string{pullsecret.ReferencesAnnotation: recorded}
	}
	return &corev1.ServiceAccount{ObjectMeta: meta, ImagePullSecrets: account.ImagePullSecrets}, nil
}

// dropContent replaces the docker configuration of a Secret by its SHA-256 checksum, so that a thousand pull secrets
// are not in memory.
func dropContent(object any) (any, error) {
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return object, nil
	}
	meta := identify(secret)
	meta.OwnerReferences = secret.OwnerReferences
	if value, ok := secret.Labels[pullsecret.Label]; ok {
		meta.Labels = map[string]string{pullsecret.Label: value}
	}
	sum := sha256.Sum256(secret.Data[corev1.DockerConfigJsonKey])
	return &corev1.Secret{
		ObjectMeta: meta, Type: secret.Type, Immutable: secret.Immutable,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: sum[:]},
	}, nil
}

// identify returns what identifies an object and its state.
func identify(object metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID(),
		ResourceVersion: object.GetResourceVersion(), DeletionTimestamp: object.GetDeletionTimestamp(),
	}
}
