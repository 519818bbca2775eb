// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/larder-project/larder/pkg/pullsecret"
)

// fieldManager is the name of the controller in the managed fields of objects.
const fieldManager = "registry-cache-pull-secrets"

// create creates a Secret.
func (k *Keeper) create(ctx context.Context, namespace *corev1.Namespace, name string, content map[string][]byte) error {
	owner, err := k.owner(ctx, name)
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: namespace.Name,
			Labels:          map[string]string{pullsecret.Label: string(namespace.UID)},
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Type: corev1.SecretTypeDockerConfigJson,
		Data: content,
	}
	if _, err := k.Client.CoreV1().Secrets(namespace.Name).Create(ctx, secret, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("create Secret %s: %w", name, err)
	}
	return nil
}

// owner returns the reference to the owner of the Secrets with a name.
func (k *Keeper) owner(ctx context.Context, name string) (metav1.OwnerReference, error) {
	k.mu.Lock()
	known, ok := k.owners[name]
	k.mu.Unlock()
	if ok && k.Clock.Since(known.read) < ownerAge {
		return known.OwnerReference, nil
	}
	role, err := k.Client.RbacV1().ClusterRoles().Get(ctx, pullsecret.OwnerName(name), metav1.GetOptions{})
	if err != nil {
		return metav1.OwnerReference{}, fmt.Errorf("read ClusterRole %s: %w", pullsecret.OwnerName(name), err)
	}
	reference := metav1.OwnerReference{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole", Name: role.Name, UID: role.UID}
	k.mu.Lock()
	k.owners[name] = ownerReference{reference, k.Clock.Now()}
	k.mu.Unlock()
	return reference, nil
}

// update gives a Secret its content and its owner. It fails with a conflict if the Secret has changed since it was
// observed: it may belong to somebody else by now. What others have added to it stays.
func (k *Keeper) update(ctx context.Context, present *corev1.Secret, content map[string][]byte) error {
	metadata := map[string]any{"uid": present.UID, "resourceVersion": present.ResourceVersion}
	if !isOwnedBy(present, pullsecret.OwnerName(present.Name)) {
		owner, err := k.owner(ctx, present.Name)
		if err != nil {
			return err
		}
		metadata["ownerReferences"] = []metav1.OwnerReference{owner}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": metadata,
		"data":     content,
	})
	if err != nil {
		return fmt.Errorf("encode patch of Secret %s", present.Name) // The error may quote it.
	}
	if _, err := k.Client.CoreV1().Secrets(present.Namespace).
		Patch(ctx, present.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("update Secret %s: %w", present.Name, err)
	}
	return nil
}

// remove deletes a Secret unless it has changed since it was observed.
func (k *Keeper) remove(ctx context.Context, present *corev1.Secret) error {
	err := k.Client.CoreV1().Secrets(present.Namespace).Delete(ctx, present.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &present.UID, ResourceVersion: &present.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Secret %s: %w", present.Name, err)
	}
	return nil
}

// deployed returns the entries of a pull secret. Its content is not kept in memory, so it is read.
func (k *Keeper) deployed(ctx context.Context, namespace, name string) (pullsecret.Auths, error) {
	secret, err := k.Client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return pullsecret.DecodeAuths(secret.Data[corev1.DockerConfigJsonKey]), nil
}

// apply gives a ServiceAccount its references. It fails with a conflict if the ServiceAccount has changed since it was
// observed: the list can only be written as a whole, and must not lose a reference that was added meanwhile.
func (k *Keeper) apply(ctx context.Context, account *corev1.ServiceAccount, c change) error {
	annotation := map[string]any{pullsecret.ReferencesAnnotation: nil}
	if len(c.recorded) > 0 {
		annotation[pullsecret.ReferencesAnnotation] = strings.Join(c.recorded, ",")
	}
	patch, err := json.Marshal(map[string]any{
		"metadata":         map[string]any{"annotations": annotation, "uid": account.UID, "resourceVersion": account.ResourceVersion},
		"imagePullSecrets": c.references,
	})
	if err != nil {
		return fmt.Errorf("encode patch of ServiceAccount %s: %w", account.Name, err)
	}
	if _, err := k.Client.CoreV1().ServiceAccounts(account.Namespace).
		Patch(ctx, account.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("update ServiceAccount %s: %w", account.Name, err)
	}
	return nil
}
