// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package pullsecrets builds the objects of the controller that keeps pull secrets in a Shoot. It is pure: the objects
// depend only on [Values].
package pullsecrets

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	// Name is the name of the objects, with the Secret of the feed.
	Name = pullsecret.FeedName
	// PodName is the name of the only pod.
	PodName = Name + "-0"

	// FeedLabel is the label of the ManagedResource with the [pullsecret.Digest] of its feed, by which the report of the
	// controller is known to be about this feed.
	FeedLabel = "registry.extensions.gardener.cloud/pull-secrets-feed"
	// ManagedResource is the name of the ManagedResource with the objects. It exists only if a cache has a pull secret.
	ManagedResource = "extension-registry-cache-pull-secrets"

	clusterRoleName = "extensions.gardener.cloud:registry-cache:pull-secrets"
	labelApp        = "app"
)

// Values are all inputs for the objects.
type Values struct {
	// Image is the image reference of the controller.
	Image string
	// Feed describes the pull secrets.
	Feed pullsecret.Feed
	// VerticalPodAutoscaler reports whether vertical pod autoscaling is enabled in the Shoot.
	VerticalPodAutoscaler bool
}

// Objects returns the objects in a fixed order.
func Objects(values Values) ([]client.Object, error) {
	feed, err := feedSecret(values)
	if err != nil {
		return nil, fmt.Errorf("build Secret %s: %w", pullsecret.FeedName, err)
	}
	objects := append(rbac(values), admissionPolicy(values)...)
	objects = append(objects, feed, statefulSet(values), networkPolicy())
	if values.VerticalPodAutoscaler {
		objects = append(objects, verticalPodAutoscaler())
	}
	return objects, nil
}

// feedSecret returns the Secret with the feed. The controller watches it, so no change of the feed restarts it.
func feedSecret(values Values) (*corev1.Secret, error) {
	encoded, err := values.Feed.Encode()
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: objectMeta(),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{pullsecret.FeedKey: encoded},
	}, nil
}

// FeedOf returns the feed in the deployed objects, an empty one if there is none.
func FeedOf(objects []client.Object) (pullsecret.Feed, error) {
	for _, object := range objects {
		if secret, ok := object.(*corev1.Secret); ok && secret.Name == pullsecret.FeedName {
			return pullsecret.DecodeFeed(secret.Data[pullsecret.FeedKey])
		}
	}
	return pullsecret.Feed{}, nil
}

func labels() map[string]string { return map[string]string{labelApp: Name} }

func objectMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: Name, Namespace: pullsecret.Namespace, Labels: labels()}
}
