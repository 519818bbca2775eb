// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package garden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/mirror"
	mirrorv1alpha1 "github.com/larder-project/larder/pkg/apis/mirror/v1alpha1"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape"
)

const (
	// ExtensionType is the type of this repository's extension.
	ExtensionType = "registry-cache"
	// CredentialsReference is the entry of spec.resources that caches reference.
	CredentialsReference = "upstream"
	// CredentialsName is the name of the Secret of that entry.
	CredentialsName = "upstream-v1"
	// MirrorCAReference is the entry of spec.resources that mirrors reference.
	MirrorCAReference = "mirror-ca"
)

// Shoot returns the repository's example of a Shoot with the given caches, or without the extension if there are none.
func Shoot(l *landscape.Landscape, caches ...v1alpha3.RegistryCache) (*gardencorev1beta1.Shoot, error) {
	objects, err := example(l, "20-shoot.yaml")
	if err != nil {
		return nil, err
	}
	shoot := &gardencorev1beta1.Shoot{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[0].Object, shoot); err != nil {
		return nil, fmt.Errorf("decode the example Shoot: %w", err)
	}

	shoot.Spec.Extensions, shoot.Spec.Resources = nil, nil
	if len(caches) == 0 {
		return shoot, nil
	}
	config := &v1alpha3.RegistryConfig{Caches: caches}
	config.SetGroupVersionKind(v1alpha3.SchemeGroupVersion.WithKind("RegistryConfig"))
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	shoot.Spec.Extensions = []gardencorev1beta1.Extension{{Type: ExtensionType, ProviderConfig: &runtime.RawExtension{Raw: raw}}}
	AddSecret(shoot, CredentialsReference, CredentialsName)
	return shoot, nil
}

// AddMirrors adds the extension registry-mirror to a Shoot. If caSecret is not empty, it is the Secret of
// MirrorCAReference.
func AddMirrors(shoot *gardencorev1beta1.Shoot, caSecret string, mirrors ...mirrorv1alpha1.Mirror) error {
	config := &mirrorv1alpha1.MirrorConfig{Mirrors: mirrors}
	config.SetGroupVersionKind(mirrorv1alpha1.SchemeGroupVersion.WithKind("MirrorConfig"))
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	shoot.Spec.Extensions = append(shoot.Spec.Extensions,
		gardencorev1beta1.Extension{Type: mirror.ExtensionType, ProviderConfig: &runtime.RawExtension{Raw: raw}})
	if caSecret != "" {
		AddSecret(shoot, MirrorCAReference, caSecret)
	}
	return nil
}

// AddSecret adds an entry to spec.resources.
func AddSecret(shoot *gardencorev1beta1.Shoot, entry, secret string) {
	shoot.Spec.Resources = append(shoot.Spec.Resources, gardencorev1beta1.NamedResourceReference{
		Name:        entry,
		ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: secret},
	})
}

// Cache returns a cache for an upstream that requires credentials.
func Cache(host string) v1alpha3.RegistryCache {
	return v1alpha3.RegistryCache{Upstream: host, SecretReferenceName: new(CredentialsReference)}
}

// ApplyShoot applies the Shoot and waits until it is ready. It retries a failed operation.
func ApplyShoot(ctx context.Context, c client.Client, shoot *gardencorev1beta1.Shoot) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(shoot)
	if err != nil {
		return fmt.Errorf("convert Shoot %s: %w", shoot.Name, err)
	}
	delete(content, "status")
	if err := apply(ctx, c, &unstructured.Unstructured{Object: content}); err != nil {
		return err
	}
	if err := retryFailed(ctx, c, client.ObjectKeyFromObject(shoot)); err != nil {
		return err
	}
	return WaitForShoot(ctx, c, client.ObjectKeyFromObject(shoot))
}

// retryFailed retries a failed operation, like an owner.
func retryFailed(ctx context.Context, c client.Client, key client.ObjectKey) error {
	shoot := &gardencorev1beta1.Shoot{}
	if err := c.Get(ctx, key, shoot); err != nil {
		return err
	}
	last := shoot.Status.LastOperation
	if last == nil || last.State != gardencorev1beta1.LastOperationStateFailed || shoot.Status.ObservedGeneration != shoot.Generation {
		return nil
	}
	patch := client.MergeFrom(shoot.DeepCopy())
	metav1.SetMetaDataAnnotation(&shoot.ObjectMeta, v1beta1constants.GardenerOperation, v1beta1constants.ShootOperationRetry)
	return c.Patch(ctx, shoot, patch)
}

// WaitForShoot waits until the last operation on the current specification of a Shoot has succeeded.
func WaitForShoot(ctx context.Context, c client.Client, key client.ObjectKey) error {
	shoot := &gardencorev1beta1.Shoot{}
	err := eventually(ctx, 10*time.Minute, func(ctx context.Context) error {
		if err := c.Get(ctx, key, shoot); err != nil {
			return err
		}
		last := shoot.Status.LastOperation
		switch {
		case last == nil || shoot.Status.ObservedGeneration != shoot.Generation:
			return errors.New("no operation has started")
		case last.State != gardencorev1beta1.LastOperationStateSucceeded:
			return fmt.Errorf("%s: %s", last.State, last.Description)
		default:
			return nil
		}
	})
	if err != nil {
		return fmt.Errorf("wait for Shoot %s: %w", key, err)
	}
	return nil
}
