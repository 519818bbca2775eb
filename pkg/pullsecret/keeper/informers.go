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
	"k8s.io/apimachinery/pkg/runtime"
	watchapi "k8s.io/apimachinery/pkg/watch"
	coreinformers "k8s.io/client-go/informers/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	// pageSize bounds the Secrets that are in memory while they are listed.
	pageSize = 100
	// checksumPrefix is the prefix of the key of a checksum in the Data of a Secret, see [withoutContent]. Those of API
	// servers cannot have it.
	checksumPrefix = "sha256:"
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
		changed   func(object metav1.Object, priority int)
	}{
		k.feeds:      {onlyFeed, func(object metav1.Object, _ int) { k.feedChanged(ctx, object.(*corev1.Secret)) }},
		k.namespaces: {onlyLabels, func(object metav1.Object, priority int) { k.enqueue(priority, object.GetName()) }},
		k.accounts:   {onlyReferences, k.enqueueNamespace},
	} {
		if err := k.setUp(informer, setup.transform, setup.changed); err != nil {
			return err
		}
	}
	return nil
}

// setUp sets up an informer that has not started.
func (k *Keeper) setUp(informer cache.SharedIndexInformer, transform cache.TransformFunc, changed func(metav1.Object, int)) error {
	if err := informer.SetTransform(transform); err != nil {
		return fmt.Errorf("set up informer: %w", err)
	}
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		k.Log.Info("Failed to watch objects; trying again", "reason", reason(err))
	}); err != nil {
		return fmt.Errorf("set up informer: %w", err)
	}
	notify := func(object any, priority int) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		if object, ok := object.(metav1.Object); ok {
			changed(object, priority)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, isInInitialList bool) {
			if isInInitialList {
				notify(object, allPriority)
			} else {
				notify(object, changedPriority)
			}
		},
		UpdateFunc: func(_, object any) { notify(object, changedPriority) },
		DeleteFunc: func(object any) { notify(object, changedPriority) },
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
		informer := cache.NewSharedIndexInformer(k.secretsNamed(name), &corev1.Secret{}, 0, nil)
		if err := k.setUp(informer, dropContent, k.enqueueNamespace); err != nil {
			k.Log.Error(err, "Failed to watch Secrets", "name", name)
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

// secretsNamed lists and watches the Secrets with a name in all namespaces. API servers that cannot stream a list return
// it in pages, one for all names at a time, so that ten thousand Secrets are never in memory.
func (k *Keeper) secretsNamed(name string) cache.ListerWatcher {
	secrets, selectName := k.Client.CoreV1().Secrets(metav1.NamespaceAll), named(name)
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			selectName(&options)
			// With a resource version, older API servers return the whole list.
			options.Limit, options.ResourceVersion, options.ResourceVersionMatch = pageSize, "", ""
			all := &corev1.SecretList{}
			for {
				page, err := k.listPage(ctx, secrets, options)
				if err != nil {
					return nil, err
				}
				all.Items = append(all.Items, page.Items...)
				all.ResourceVersion, options.Continue = page.ResourceVersion, page.Continue
				if page.Continue == "" {
					return all, nil
				}
			}
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watchapi.Interface, error) {
			selectName(&options)
			return secrets.Watch(ctx, options)
		},
	}, k.Client)
}

// listPage returns a page of Secrets without their content.
func (k *Keeper) listPage(ctx context.Context, secrets corev1client.SecretInterface, options metav1.ListOptions) (*corev1.SecretList, error) {
	k.listing.Lock()
	defer k.listing.Unlock()
	page, err := secrets.List(ctx, options)
	if err != nil {
		return nil, err
	}
	for i := range page.Items {
		page.Items[i] = *withoutContent(&page.Items[i])
	}
	return page, nil
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

// enqueueNamespace reconciles the namespace of an object.
func (k *Keeper) enqueueNamespace(object metav1.Object, priority int) {
	k.enqueue(priority, object.GetNamespace())
}

// enqueueAll reconciles all namespaces.
func (k *Keeper) enqueueAll() { k.enqueue(allPriority, k.namespaces.GetStore().ListKeys()...) }

func (k *Keeper) enqueue(priority int, namespaces ...string) {
	k.queue.AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, namespaces...)
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

// dropContent is [withoutContent] for informers.
func dropContent(object any) (any, error) {
	if secret, ok := object.(*corev1.Secret); ok {
		return withoutContent(secret), nil
	}
	return object, nil
}

// withoutContent returns a Secret with SHA-256 checksums instead of its content. It returns such a Secret as it is.
func withoutContent(secret *corev1.Secret) *corev1.Secret {
	if _, ok := secret.Data[checksumPrefix+corev1.DockerConfigJsonKey]; ok {
		return secret
	}
	meta := identify(secret)
	meta.OwnerReferences = secret.OwnerReferences
	if value, ok := secret.Labels[pullsecret.Label]; ok {
		meta.Labels = map[string]string{pullsecret.Label: value}
	}
	sums := map[string][]byte{}
	for _, key := range pullsecret.DataKeys() {
		if value, ok := secret.Data[key]; ok || key == corev1.DockerConfigJsonKey {
			sum := sha256.Sum256(value)
			sums[checksumPrefix+key] = sum[:]
		}
	}
	return &corev1.Secret{ObjectMeta: meta, Type: secret.Type, Immutable: secret.Immutable, Data: sums}
}

// identify returns what identifies an object and its state.
func identify(object metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID(),
		ResourceVersion: object.GetResourceVersion(), DeletionTimestamp: object.GetDeletionTimestamp(),
	}
}
