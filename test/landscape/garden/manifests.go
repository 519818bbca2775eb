// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package garden

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

//go:embed manifests/landscape.yaml
var landscapeManifest []byte

//go:embed manifests/shoot.yaml
var shootManifest []byte

// Shoot returns the landscape's example Shoot.
func Shoot() (*gardencorev1beta1.Shoot, error) {
	objects, err := decode(shootManifest)
	if err != nil {
		return nil, err
	}
	shoot := &gardencorev1beta1.Shoot{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[0].Object, shoot); err != nil {
		return nil, fmt.Errorf("could not decode the example Shoot: %w", err)
	}
	return shoot, nil
}

// decode returns the objects of a stream of YAML documents. Empty documents are skipped.
func decode(manifest []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(&object.Object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("could not decode a manifest: %w", err)
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}
