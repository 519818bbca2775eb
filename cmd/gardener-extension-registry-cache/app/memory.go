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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
			&corev1.Namespace{}: {
				Transform: stripNamespace,
			},
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
// list them in all namespaces. Namespaces are not rarely read: Gardener's library reads that of an Extension at every
// event, and events wait for each other.
func clientOptions() client.Options {
	return client.Options{
		Cache: &client.CacheOptions{
			DisableFor: []client.Object{
				&corev1.Secret{},
				&coordinationv1.Lease{},
				&admissionregistrationv1.MutatingWebhookConfiguration{},
			},
		},
	}
}

// stripNamespace drops all but the name, the identity and the labels, which mark the namespaces of Shoots.
func stripNamespace(object any) (any, error) {
	if namespace, ok := object.(*corev1.Namespace); ok {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: namespace.Name, UID: namespace.UID, ResourceVersion: namespace.ResourceVersion, Labels: namespace.Labels,
		}}, nil
	}
	return object, nil
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
