// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package app

import (
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/utils/managedresources"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/controller/cache"
)

// A seed has thousands of objects that do not concern this extension. The manager keeps only the objects that need
// events in memory, and only the fields that are read.

// cacheOptions returns options that reduce the watched kinds to what is needed.
func cacheOptions() ctrlcache.Options {
	return ctrlcache.Options{
		DefaultTransform: ctrlcache.TransformStripManagedFields(),
		ByObject: map[client.Object]ctrlcache.ByObject{
			&extensionsv1alpha1.Cluster{}: {
				Transform: stripCluster,
			},
			&resourcesv1alpha1.ManagedResource{}: {
				Label: labels.SelectorFromSet(labels.Set{managedresources.LabelKeyOrigin: cache.Origin}),
			},
		},
	}
}

// clientOptions returns options that exclude rarely read kinds from the cache. So there is no need for permission to
// list them in all namespaces.
func clientOptions() client.Options {
	return client.Options{
		Cache: &client.CacheOptions{
			DisableFor: []client.Object{
				&corev1.Secret{},
				&corev1.Namespace{},
				&coordinationv1.Lease{},
				&admissionregistrationv1.MutatingWebhookConfiguration{},
			},
		},
	}
}

// stripCluster drops the CloudProfile and the Seed, which are not read and make up most of a Cluster.
func stripCluster(object any) (any, error) {
	if cluster, ok := object.(*extensionsv1alpha1.Cluster); ok {
		cluster.ManagedFields = nil
		cluster.Spec.CloudProfile = runtime.RawExtension{}
		cluster.Spec.Seed = nil
	}
	return object, nil
}
