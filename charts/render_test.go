// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/gardener/gardener/pkg/chartrenderer"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	chartloader "helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/version"
	"sigs.k8s.io/yaml"
)

const (
	extensionChart   = "gardener-extension-registry-cache"
	admissionChart   = "gardener-extension-registry-cache-admission"
	applicationChart = admissionChart + "/charts/application"
	runtimeChart     = admissionChart + "/charts/runtime"

	releaseName = "extension-registry-cache"
)

type values = map[string]any

// renderArchive packages a chart as for an OCI registry and renders the package as Gardener does.
func renderArchive(chart, namespace string, values values) ([]*unstructured.Unstructured, error) {
	GinkgoHelper()
	loaded, err := chartloader.LoadDir(chart)
	Expect(err).NotTo(HaveOccurred())
	file, err := chartutil.Save(loaded, GinkgoT().TempDir())
	Expect(err).NotTo(HaveOccurred())
	archive, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred())

	renderer := chartrenderer.NewWithServerVersion(&version.Info{GitVersion: "v1.36.3", Major: "1", Minor: "36"})
	rendered, err := renderer.RenderArchive(archive, releaseName, namespace, values)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, manifest := range rendered.Manifests {
		object := &unstructured.Unstructured{}
		Expect(yaml.UnmarshalStrict([]byte(manifest.Content), &object.Object)).To(Succeed(), manifest.Name)
		objects = append(objects, object)
	}
	return objects, nil
}

func render(chart, namespace string, values values) []*unstructured.Unstructured {
	GinkgoHelper()
	objects, err := renderArchive(chart, namespace, values)
	Expect(err).NotTo(HaveOccurred())
	return objects
}

func expectGolden(name string, objects []*unstructured.Unstructured) {
	GinkgoHelper()
	var actual strings.Builder
	for _, object := range objects {
		data, err := yaml.Marshal(object.Object)
		Expect(err).NotTo(HaveOccurred())
		actual.WriteString("---\n" + string(data))
	}
	file := filepath.Join("testdata", name+".yaml")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		Expect(os.WriteFile(file, []byte(actual.String()), 0o600)).To(Succeed())
	}
	golden, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred(), "run the test with UPDATE_GOLDEN=1 to write it")
	Expect(actual.String()).To(Equal(string(golden)))
}
