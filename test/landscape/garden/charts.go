// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package garden

import (
	"path/filepath"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/gardenlet"
	"github.com/larder-project/larder/test/landscape/parts"
)

const (
	extensionName = "gardener-extension-registry-cache"
	admissionName = extensionName + "-admission"
	// ExtensionNamespace is the namespace in which gardenlet installs an extension: extension-<name of the
	// ControllerInstallation>.
	ExtensionNamespace = "extension-registry-cache"
	// AdmissionNamespace is the namespace in which gardener-operator installs an admission component.
	AdmissionNamespace = "garden"

	gardenerVersion = "v1.150.0"
)

// charts returns the charts to install, with the values that Gardener's components would set. The garden is not
// virtual, so the admission component uses the cluster that it runs in.
func charts(l *landscape.Landscape, images map[string]string) []chart {
	dir := filepath.Join(l.Repository(), "charts")
	admission := filepath.Join(dir, admissionName, "charts")

	return []chart{
		{
			dir:       filepath.Join(admission, "application"),
			release:   admissionName,
			namespace: AdmissionNamespace,
			values: map[string]any{"gardener": map[string]any{"virtualCluster": map[string]any{
				"serviceAccount": map[string]any{"name": admissionName, "namespace": AdmissionNamespace},
			}}},
		},
		{
			dir:       filepath.Join(admission, "runtime"),
			release:   admissionName,
			namespace: AdmissionNamespace,
			values: map[string]any{
				"image":         images[parts.Admission],
				"replicaCount":  1,
				"webhookConfig": map[string]any{"mode": "service"},
			},
		},
		{
			dir:       filepath.Join(dir, extensionName),
			release:   extensionName,
			namespace: ExtensionNamespace,
			values:    extensionValues(images),
		},
	}
}

func extensionValues(images map[string]string) map[string]any {
	seed := gardenlet.Seed()
	return map[string]any{
		"image":        images[parts.Extension],
		"replicaCount": 1,
		"imageVectorOverwrite": map[string]any{"images": []any{
			map[string]any{"name": imagevector.RegistryCacheServer, "ref": images[parts.CacheServer]},
			map[string]any{"name": imagevector.RegistryCachePullSecrets, "ref": images[parts.PullSecrets]},
		}},
		"gardener": map[string]any{
			"version": gardenerVersion,
			"garden":  map[string]any{"clusterIdentity": "landscape-garden"},
			"seed": map[string]any{
				"name":            seed.Name,
				"clusterIdentity": seed.Status.ClusterIdentity,
				"provider":        seed.Spec.Provider.Type,
				"region":          seed.Spec.Provider.Region,
				"spec":            seed.Spec,
			},
		},
	}
}

// inNamespace sets the namespace of namespaced objects without one to that of the release, like an installer.
func inNamespace(mapper meta.RESTMapper, objects []*unstructured.Unstructured, namespace string) []*unstructured.Unstructured {
	for _, object := range objects {
		gvk := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err == nil && mapping.Scope.Name() == meta.RESTScopeNameNamespace && object.GetNamespace() == "" {
			object.SetNamespace(namespace)
		}
	}
	return objects
}
