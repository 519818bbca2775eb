// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is version v1alpha1 of the API group config.registry.extensions.gardener.cloud: the configuration
// file of the extension controller.
//
// +k8s:deepcopy-gen=package
// +k8s:defaulter-gen=TypeMeta
// +groupName=config.registry.extensions.gardener.cloud
package v1alpha1
