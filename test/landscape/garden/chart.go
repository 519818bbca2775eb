// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package garden

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// chart is one of the repository's charts and its installation.
type chart struct {
	dir       string
	release   string
	namespace string
	values    map[string]any
}

// render returns the chart's objects. Values may contain typed objects, which templates see as JSON.
func (c chart) render(kubernetesVersion string) ([]*unstructured.Unstructured, error) {
	loaded, err := loader.Load(c.dir)
	if err != nil {
		return nil, fmt.Errorf("load chart %s: %w", c.dir, err)
	}
	version, err := common.ParseKubeVersion(kubernetesVersion)
	if err != nil {
		return nil, fmt.Errorf("parse Kubernetes version %q: %w", kubernetesVersion, err)
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version

	plain, err := plainValues(c.values)
	if err != nil {
		return nil, err
	}
	values, err := util.ToRenderValues(loaded, plain, common.ReleaseOptions{Name: c.release, Namespace: c.namespace, IsInstall: true, Revision: 1}, capabilities)
	if err != nil {
		return nil, fmt.Errorf("compose values of chart %s: %w", c.dir, err)
	}
	files, err := engine.Render(loaded, values)
	if err != nil {
		return nil, fmt.Errorf("render chart %s: %w", c.dir, err)
	}

	var objects []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if extension := path.Ext(name); extension != ".yaml" && extension != ".yml" || strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		decoded, err := decode([]byte(files[name]))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		objects = append(objects, decoded...)
	}
	return objects, nil
}

func plainValues(values map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	plain := map[string]any{}
	return plain, json.Unmarshal(raw, &plain)
}
