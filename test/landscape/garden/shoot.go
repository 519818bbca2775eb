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

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape"
)

const (
	// ExtensionType is the type of this repository's extension.
	ExtensionType = "registry-cache"
	// CredentialsReference is the entry in a Shoot's spec.resources that caches refer to.
	CredentialsReference = "upstream"
	// CredentialsName is the name of the Secret behind that entry.
	CredentialsName = "upstream-v1"
)

// Shoot returns the repository's example of a Shoot, with the given caches in place of its own, or without the extension
// if there are none.
func Shoot(l *landscape.Landscape, caches ...v1alpha3.RegistryCache) (*gardencorev1beta1.Shoot, error) {
	objects, err := example(l, "20-shoot.yaml")
	if err != nil {
		return nil, err
	}
	shoot := &gardencorev1beta1.Shoot{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[0].Object, shoot); err != nil {
		return nil, fmt.Errorf("could not decode the example Shoot: %w", err)
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
	shoot.Spec.Resources = []gardencorev1beta1.NamedResourceReference{{
		Name:        CredentialsReference,
		ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: CredentialsName},
	}}
	return shoot, nil
}

// Cache returns a cache for an upstream that wants credentials.
func Cache(host string) v1alpha3.RegistryCache {
	return v1alpha3.RegistryCache{Upstream: host, SecretReferenceName: new(CredentialsReference)}
}

// ApplyShoot creates or changes the Shoot and waits until it is ready. An operation that failed for good is tried again.
func ApplyShoot(ctx context.Context, c client.Client, shoot *gardencorev1beta1.Shoot) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(shoot)
	if err != nil {
		return fmt.Errorf("could not convert Shoot %s: %w", shoot.Name, err)
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

// retryFailed does what an owner does when Gardener has given up on a Shoot.
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

// WaitForShoot waits until the last operation on a Shoot's present specification has succeeded.
func WaitForShoot(ctx context.Context, c client.Client, key client.ObjectKey) error {
	shoot := &gardencorev1beta1.Shoot{}
	err := eventually(ctx, 10*time.Minute, func(ctx context.Context) error {
		if err := c.Get(ctx, key, shoot); err != nil {
			return err
		}
		last := shoot.Status.LastOperation
		switch {
		case last == nil || shoot.Status.ObservedGeneration != shoot.Generation:
			return errors.New("nobody works on it")
		case last.State != gardencorev1beta1.LastOperationStateSucceeded:
			return fmt.Errorf("%s: %s", last.State, last.Description)
		default:
			return nil
		}
	})
	if err != nil {
		return fmt.Errorf("the Shoot %s does not get ready: %w", key, err)
	}
	return nil
}
