// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	extensionsconfigv1alpha1 "github.com/gardener/gardener/extensions/pkg/apis/config/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const defaultSyncPeriod = 30 * time.Second

func addDefaultingFuncs(scheme *runtime.Scheme) error {
	return RegisterDefaults(scheme)
}

// SetDefaults_Configuration sets the defaults of a configuration. It includes the period of the health checks, whose
// type belongs to Gardener's library.
func SetDefaults_Configuration(configuration *Configuration) {
	if configuration.HealthCheckConfig == nil {
		configuration.HealthCheckConfig = &extensionsconfigv1alpha1.HealthCheckConfig{}
	}
	if configuration.HealthCheckConfig.SyncPeriod.Duration == 0 {
		configuration.HealthCheckConfig.SyncPeriod = metav1.Duration{Duration: defaultSyncPeriod}
	}
}
