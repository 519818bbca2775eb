// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"os"
	"path/filepath"

	"github.com/gardener/gardener/pkg/api/extensions/validation"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// bareSpec returns the spec that gardenlet writes, without registries and without our file.
func bareSpec() extensionsv1alpha1.OperatingSystemConfigSpec {
	return extensionsv1alpha1.OperatingSystemConfigSpec{
		DefaultSpec: extensionsv1alpha1.DefaultSpec{Type: "example-os"},
		Purpose:     extensionsv1alpha1.OperatingSystemConfigPurposeReconcile,
		CRIConfig: &extensionsv1alpha1.CRIConfig{
			Name:       extensionsv1alpha1.CRINameContainerD,
			Containerd: &extensionsv1alpha1.ContainerdConfig{SandboxImage: "registry.example.com/pause:1"},
		},
		Files: []extensionsv1alpha1.File{fileWith("/etc/first", "first"), fileWith("/etc/last", "last")},
	}
}

func fileWith(path, content string) extensionsv1alpha1.File {
	return extensionsv1alpha1.File{
		Path:    path,
		Content: extensionsv1alpha1.FileContent{Inline: &extensionsv1alpha1.FileContentInline{Data: content}},
	}
}

func entryFor(upstream, endpoint string, caCerts ...string) extensionsv1alpha1.RegistryConfig {
	return extensionsv1alpha1.RegistryConfig{
		Upstream: upstream,
		Hosts:    []extensionsv1alpha1.RegistryHost{{URL: endpoint, CACerts: caCerts}},
	}
}

func bareOSC() *extensionsv1alpha1.OperatingSystemConfig {
	return &extensionsv1alpha1.OperatingSystemConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "pool"},
		Spec:       bareSpec(),
	}
}

// expectNodeConfig adds a configuration to an OperatingSystemConfig and compares the result with a golden file.
func expectNodeConfig(golden string, config nodeConfig, osc *extensionsv1alpha1.OperatingSystemConfig) {
	GinkgoHelper()
	Expect(config.addTo(osc)).To(Succeed())
	spec := osc.Spec.DeepCopy()
	for _, file := range spec.Files {
		if file.Path == hostsScriptPath {
			Expect(file.Content.Inline.Data).To(Equal(hostsScript))
			file.Content.Inline.Data = "registry-cache-hosts.sh"
		}
	}
	expectGolden(golden, spec)

	By("passing Gardener's validation")
	Expect(validation.ValidateOperatingSystemConfig(osc)).To(BeEmpty())

	By("being idempotent")
	again := osc.DeepCopy()
	Expect(config.addTo(again)).To(Succeed())
	Expect(again).To(Equal(osc))
}

func expectGolden(name string, actual any) {
	GinkgoHelper()
	data, err := yaml.Marshal(actual)
	Expect(err).NotTo(HaveOccurred())
	file := filepath.Join("testdata", name+".yaml")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		Expect(os.WriteFile(file, data, 0o600)).To(Succeed())
	}
	golden, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred(), "run the test with UPDATE_GOLDEN=1 to write it")
	Expect(string(data)).To(Equal(string(golden)))
}
