// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package garden

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/utils/kubernetes/health"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
)

const (
	fieldOwner   = client.FieldOwner("landscape")
	pollInterval = 500 * time.Millisecond
)

// Scheme returns the types of the garden, the seed and the shoot, which are one cluster.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(gardencorev1beta1.AddToScheme(scheme))
	utilruntime.Must(extensionsv1alpha1.AddToScheme(scheme))
	utilruntime.Must(resourcesv1alpha1.AddToScheme(scheme))
	return scheme
}

// Client returns a client of the landscape's cluster with all permissions.
func Client(l *landscape.Landscape) (client.Client, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of the landscape: %w", err)
	}
	config.QPS = -1
	return client.New(config, client.Options{Scheme: Scheme()})
}

// apply applies an object. It retries for a while, because API servers, their caches and their webhooks may have just
// started.
func apply(ctx context.Context, c client.Client, object *unstructured.Unstructured) error {
	err := eventually(ctx, 2*time.Minute, func(ctx context.Context) error {
		return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object.DeepCopy()), fieldOwner, client.ForceOwnership)
	})
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
	}
	return nil
}

func applyAll(ctx context.Context, c client.Client, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if err := apply(ctx, c, object); err != nil {
			return err
		}
	}
	return nil
}

// eventually retries until there is no error, and returns the last one after a timeout.
func eventually(ctx context.Context, timeout time.Duration, try func(context.Context) error) error {
	var last error
	if err := wait.PollUntilContextTimeout(ctx, pollInterval, timeout, true, func(ctx context.Context) (bool, error) {
		last = try(ctx)
		return last == nil, nil
	}); err != nil && last == nil {
		return err
	}
	return last
}

// waitForDeployments waits until the Deployments among the objects have rolled out.
func waitForDeployments(ctx context.Context, c client.Client, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if object.GetKind() != "Deployment" {
			continue
		}
		if err := eventually(ctx, 5*time.Minute, func(ctx context.Context) error {
			deployment := &appsv1.Deployment{}
			if err := c.Get(ctx, client.ObjectKeyFromObject(object), deployment); err != nil {
				return err
			}
			if progressing, reason := health.IsDeploymentProgressing(deployment); progressing {
				return errors.New(reason)
			}
			return health.CheckDeployment(deployment)
		}); err != nil {
			return fmt.Errorf("wait for Deployment %s: %w", client.ObjectKeyFromObject(object), err)
		}
	}
	return nil
}

// inCreationOrder sorts namespaces first and webhooks last.
func inCreationOrder(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	rank := func(object *unstructured.Unstructured) int {
		switch object.GetKind() {
		case "Namespace", "CustomResourceDefinition":
			return 0
		case "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration":
			return 2
		default:
			return 1
		}
	}
	sorted := slices.Clone(objects)
	slices.SortStableFunc(sorted, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	return sorted
}
