// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

func addDefaultingFuncs(scheme *runtime.Scheme) error {
	return RegisterDefaults(scheme)
}

// SetDefaults_Host limits a mirror to pulls: by default, the upstream resolves tags.
func SetDefaults_Host(host *Host) {
	if len(host.Capabilities) == 0 {
		host.Capabilities = []Capability{Pull}
	}
}
