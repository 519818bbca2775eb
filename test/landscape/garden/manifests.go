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
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/larder-project/larder/test/landscape"
)

//go:embed manifests/landscape.yaml
var landscapeManifest []byte

// example returns the objects of a file in the repository's directory of examples.
func example(l *landscape.Landscape, name string) ([]*unstructured.Unstructured, error) {
	manifest, err := os.ReadFile(filepath.Join(l.Repository(), "example", name)) // #nosec G304 -- a file of this repository.
	if err != nil {
		return nil, err
	}
	return decode(manifest)
}

// decode returns the objects of a stream of YAML documents, without empty documents.
func decode(manifest []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(&object.Object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("decode manifest: %w", err)
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}
