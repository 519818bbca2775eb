// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package install registers all versions of the API group registry.extensions.gardener.cloud.
package install

import (
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
)

// AddToScheme registers the internal and all external versions of the group with their defaults and conversions.
func AddToScheme(scheme *runtime.Scheme) error {
	builder := runtime.NewSchemeBuilder(
		registry.AddToScheme,
		v1alpha3.AddToScheme,
		func(scheme *runtime.Scheme) error {
			return scheme.SetVersionPriority(v1alpha3.SchemeGroupVersion)
		},
	)
	return builder.AddToScheme(scheme)
}
