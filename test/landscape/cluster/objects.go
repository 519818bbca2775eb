// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kubernetesscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/volumes"
)

const (
	gardenNamespace     = "garden"
	gardenerServiceName = "gardener-apiserver"
	fieldOwner          = client.FieldOwner("landscape")
)

// gardenerAPIs are the groups and versions that gardener-apiserver serves.
var gardenerAPIs = []string{
	"v1.core", "v1beta1.core", "v1alpha1.seedmanagement", "v1alpha1.operations", "v1alpha1.security",
}

// definitions are patterns of the files in Gardener's module that define the
// resources of a seed and of a shoot as far as extensions use them.
var definitions = []string{
	"example/seed-crds/10-crd-extensions.gardener.cloud_*.yaml",
	"example/seed-crds/10-crd-autoscaling.k8s.io_*.yaml",
	"example/seed-crds/10-crd-monitoring.coreos.com_prometheusrules.yaml",
	"example/seed-crds/10-crd-monitoring.coreos.com_scrapeconfigs.yaml",
	"example/seed-crds/10-crd-monitoring.coreos.com_servicemonitors.yaml",
	"example/resource-manager/10-crd-resources.gardener.cloud_*.yaml",
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

// ApplyObjects creates what the parts expect to find in the cluster.
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

// gardenerService leads the API server to gardener-apiserver, which is a
// process beside it.
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
				Port:      ptr.To[int32](gardenerAPIServerPort),
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
		ReclaimPolicy:        ptr.To(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode:    ptr.To(storagev1.VolumeBindingImmediate),
		AllowVolumeExpansion: ptr.To(true),
	}
}

// customResources reads the definitions from the version of Gardener's module
// that this repository requires.
func customResources(ctx context.Context, repository string) ([]client.Object, error) {
	command := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gardener/gardener")
	command.Dir = repository
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("find Gardener's module: %w", err)
	}
	var objects []client.Object
	for _, pattern := range definitions {
		paths, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(output)), pattern))
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("gardener's module has no files %s", pattern)
		}
		for _, path := range slices.Sorted(slices.Values(paths)) {
			found, err := decode(path)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", path, err)
			}
			objects = append(objects, found...)
		}
	}
	return objects, nil
}

func decode(path string) ([]client.Object, error) {
	content, err := os.ReadFile(path) // #nosec G304 -- a file of a pinned module.
	if err != nil {
		return nil, err
	}
	var objects []client.Object
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}

// AwaitGardenerAPI waits until the API server offers Gardener's API.
func AwaitGardenerAPI(ctx context.Context, l *landscape.Landscape) error {
	c, err := NewClient(l)
	if err != nil {
		return err
	}
	return poll(ctx, func() error {
		for _, api := range gardenerAPIs {
			service := &apiregistrationv1.APIService{}
			name := api + ".gardener.cloud"
			if err := c.Get(ctx, client.ObjectKey{Name: name}, service); err != nil {
				return err
			}
			if !available(service) {
				return fmt.Errorf("the API service %s is not available: %+v", name, service.Status.Conditions)
			}
		}
		return nil
	})
}

func available(service *apiregistrationv1.APIService) bool {
	return slices.ContainsFunc(service.Status.Conditions, func(c apiregistrationv1.APIServiceCondition) bool {
		return c.Type == apiregistrationv1.Available && c.Status == apiregistrationv1.ConditionTrue
	})
}

// NodeState returns nil if the node is ready, else why it is not.
func NodeState(ctx context.Context, c client.Client) error {
	node := &corev1.Node{}
	if err := c.Get(ctx, client.ObjectKey{Name: landscape.NodeName}, node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("the node is not ready: %s", condition.Message)
		}
	}
	return errors.New("the node has not said whether it is ready")
}

// AwaitNode waits until the node is ready.
func AwaitNode(ctx context.Context, l *landscape.Landscape) error {
	c, err := NewClient(l)
	if err != nil {
		return err
	}
	return poll(ctx, func() error { return NodeState(ctx, c) })
}

// poll calls a function until it succeeds or a minute is over.
func poll(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}
