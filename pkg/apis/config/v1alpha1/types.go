// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	extensionsconfigv1alpha1 "github.com/gardener/gardener/extensions/pkg/apis/config/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Configuration configures the extension controller.
type Configuration struct {
	metav1.TypeMeta `json:",inline"`

	// HealthCheckConfig configures the health checks of the caches. Its syncPeriod defaults to 30s.
	// +optional
	HealthCheckConfig *extensionsconfigv1alpha1.HealthCheckConfig `json:"healthCheckConfig,omitempty"`
}
