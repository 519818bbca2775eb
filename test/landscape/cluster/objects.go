// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubernetesscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/volumes"
)

const (
	gardenNamespace     = "garden"
	gardenerServiceName = "gardener-apiserver"
	fieldOwner          = client.FieldOwner("landscape")
)

// gardenerAPIs are the groups and versions of gardener-apiserver.
var gardenerAPIs = []string{
	"v1.core", "v1beta1.core", "v1alpha1.seedmanagement", "v1alpha1.operations", "v1alpha1.security",
}

// NewClient returns a client for the objects that the cluster itself needs.
func NewClient(l *landscape.Landscape) (client.Client, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	if err := errors.Join(kubernetesscheme.AddToScheme(scheme), apiregistrationv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

// ApplyObjects creates the objects that the components expect in the cluster.
func ApplyObjects(ctx context.Context, l *landscape.Landscape) error {
	c, err := NewClient(l)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(l.CAFile())
	if err != nil {
		return err
	}
	objects := []client.Object{namespace(), gardenerService(), storageClass()}
	for _, api := range gardenerAPIs {
		objects = append(objects, apiService(api, ca))
	}
	resources, err := customResources(ctx, l.Repository())
	if err != nil {
		return err
	}
	for _, object := range append(objects, resources...) {
		//nolint:staticcheck // Typed apply configurations do not exist for all of them.
		if err := c.Patch(ctx, object, client.Apply, fieldOwner, client.ForceOwnership); err != nil {
			return fmt.Errorf("apply %T %s: %w", object, object.GetName(), err)
		}
	}
	return nil
}

func namespace() client.Object {
	return &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: gardenNamespace},
	}
}

// gardenerService directs the API server to gardener-apiserver, which runs beside it.
func gardenerService() client.Object {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: gardenerServiceName, Namespace: gardenNamespace},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}
}

func apiService(api string, ca []byte) client.Object {
	version, group, _ := strings.Cut(api, ".")
	group += ".gardener.cloud"
	return &apiregistrationv1.APIService{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiregistration.k8s.io/v1", Kind: "APIService"},
		ObjectMeta: metav1.ObjectMeta{Name: version + "." + group},
		Spec: apiregistrationv1.APIServiceSpec{
			Group:                group,
			Version:              version,
			GroupPriorityMinimum: 100,
			VersionPriority:      100,
			CABundle:             ca,
			Service: &apiregistrationv1.ServiceReference{
				Namespace: gardenNamespace,
				Name:      gardenerServiceName,
				Port:      new(int32(gardenerAPIServerPort)),
			},
		},
	}
}

func storageClass() client.Object {
	return &storagev1.StorageClass{
		TypeMeta: metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "StorageClass"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        volumes.StorageClass,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner:          volumes.Provisioner,
		ReclaimPolicy:        new(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode:    new(storagev1.VolumeBindingImmediate),
		AllowVolumeExpansion: new(true),
	}
}
