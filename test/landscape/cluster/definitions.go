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

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// definitions are patterns of the files in Gardener's module that define those resources of a seed and a shoot that
// extensions use.
var definitions = []string{
	"example/seed-crds/10-crd-extensions.gardener.cloud_*.yaml",
	"example/seed-crds/10-crd-autoscaling.k8s.io_*.yaml",
	"example/seed-crds/10-crd-monitoring.coreos.com_prometheusrules.yaml",
	"example/seed-crds/10-crd-monitoring.coreos.com_scrapeconfigs.yaml",
	"example/seed-crds/10-crd-monitoring.coreos.com_servicemonitors.yaml",
	"example/resource-manager/10-crd-resources.gardener.cloud_*.yaml",
}

// customResources reads the definitions from the required version of Gardener's module.
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
			return nil, fmt.Errorf("no files %s in Gardener's module", pattern)
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
