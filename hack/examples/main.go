// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command examples writes the manifests by which operators make the extension
// known to Gardener: example/extension.yaml for gardener-operator, and
// example/controller-registration.yaml, which is what gardener-operator makes
// of the former, for landscapes without it.
package main

import (
	"fmt"
	"os"
	"strings"

	gardencorev1 "github.com/gardener/gardener/pkg/apis/core/v1"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	operatorv1alpha1 "github.com/gardener/gardener/pkg/apis/operator/v1alpha1"
	"github.com/gardener/gardener/pkg/utils/gardener/operator"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/apis/registry"
)

const (
	// name is the name of the registration. Seeds get a namespace extension-<name>-<suffix> for it.
	name = "extension-registry-cache"
	// charts is where the charts are published.
	charts = "ghcr.io/larder-project/charts/"

	chart            = "gardener-extension-registry-cache"
	applicationChart = "gardener-extension-registry-cache-admission-application"
	runtimeChart     = "gardener-extension-registry-cache-admission-runtime"

	license = "# SPDX-FileCopyrightText: The Larder Authors\n#\n# SPDX-License-Identifier: Apache-2.0\n\n"
	origin  = "# Written by hack/examples; run 'make generate' instead of editing.\n\n"

	extensionComment = "# Makes the extension known to a Gardener landscape that gardener-operator runs. It installs the controller on the\n" +
		"# seeds that need it, and the admission component in the garden.\n"
	registrationComment = "# Makes the extension known to a Gardener landscape without gardener-operator. The admission component is installed\n" +
		"# beside it, see docs/installation.md.\n"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	version, err := os.ReadFile("VERSION")
	if err != nil {
		return fmt.Errorf("could not read the version, this runs in the repository's root: %w", err)
	}
	extension := newExtension(strings.TrimPrefix(strings.TrimSpace(string(version)), "v"))
	if err := write("extension.yaml", extensionComment, extension); err != nil {
		return err
	}

	controllerRegistration, controllerDeployment := operator.ControllerRegistrationForExtension(extension)
	controllerDeployment.TypeMeta = metav1.TypeMeta{APIVersion: gardencorev1.SchemeGroupVersion.String(), Kind: "ControllerDeployment"}
	controllerRegistration.TypeMeta = metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "ControllerRegistration"}
	return write("controller-registration.yaml", registrationComment, controllerDeployment, controllerRegistration)
}

// newExtension describes the extension to gardener-operator.
func newExtension(chartVersion string) *operatorv1alpha1.Extension {
	return &operatorv1alpha1.Extension{
		TypeMeta: metav1.TypeMeta{APIVersion: operatorv1alpha1.SchemeGroupVersion.String(), Kind: "Extension"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			// The controller's pods need no privilege, so their namespace in the seed allows none.
			Annotations: map[string]string{v1beta1constants.AnnotationPodSecurityEnforce: "restricted"},
		},
		Spec: operatorv1alpha1.ExtensionSpec{
			Resources: []gardencorev1beta1.ControllerResource{controllerResource()},
			Deployment: &operatorv1alpha1.Deployment{
				ExtensionDeployment: &operatorv1alpha1.ExtensionDeploymentSpec{DeploymentSpec: deploymentOf(chart, chartVersion)},
				AdmissionDeployment: &operatorv1alpha1.AdmissionDeploymentSpec{
					RuntimeCluster: ptr.To(deploymentOf(runtimeChart, chartVersion)),
					VirtualCluster: ptr.To(deploymentOf(applicationChart, chartVersion)),
				},
			},
		},
	}
}

// controllerResource says what the extension is responsible for, and when in a Shoot's life.
func controllerResource() gardencorev1beta1.ControllerResource {
	return gardencorev1beta1.ControllerResource{
		Kind: extensionsv1alpha1.ExtensionResource,
		Type: registry.ExtensionType,
		// Caches run on workers, for workers.
		WorkerlessSupported:  ptr.To(false),
		ClusterCompatibility: []gardencorev1beta1.ClusterType{gardencorev1beta1.ClusterTypeShoot},
		Lifecycle: &gardencorev1beta1.ControllerResourceLifecycle{
			// The Shoot's API server gives the caches their addresses. gardenlet waits for the Extension before it
			// writes the OperatingSystemConfigs, into which the webhook puts those addresses; AfterWorker is too late.
			Reconcile: ptr.To(gardencorev1beta1.AfterKubeAPIServer),
			// The objects in the Shoot can only be removed while its API server runs.
			Delete: ptr.To(gardencorev1beta1.BeforeKubeAPIServer),
			// They are let go of, but stay, before the control plane moves.
			Migrate: ptr.To(gardencorev1beta1.BeforeKubeAPIServer),
		},
	}
}

func deploymentOf(chart, version string) operatorv1alpha1.DeploymentSpec {
	return operatorv1alpha1.DeploymentSpec{Helm: &operatorv1alpha1.ExtensionHelm{
		OCIRepository: &gardencorev1.OCIRepository{Ref: ptr.To(charts + chart + ":" + version)},
	}}
}

// write writes the objects as an operator would, without the empty fields that the types insist on.
func write(file, comment string, objects ...any) error {
	content := license + comment + origin
	for i, object := range objects {
		data, err := yaml.Marshal(object)
		if err != nil {
			return fmt.Errorf("could not marshal %s: %w", file, err)
		}
		if i > 0 {
			content += "---\n"
		}
		content += strings.NewReplacer("  creationTimestamp: null\n", "", "status: {}\n", "").Replace(string(data))
	}
	folder, err := os.OpenRoot("example")
	if err != nil {
		return fmt.Errorf("could not open the folder of the examples: %w", err)
	}
	defer func() { _ = folder.Close() }()
	if err := folder.WriteFile(file, []byte(content), 0o600); err != nil {
		return fmt.Errorf("could not write the example: %w", err)
	}
	return nil
}
