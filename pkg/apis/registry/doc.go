// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package registry contains the internal types of the API group registry.extensions.gardener.cloud: the providerConfig
// of the registry-cache extension (RegistryConfig) and its provider status (RegistryStatus).
//
// +k8s:deepcopy-gen=package
// +groupName=registry.extensions.gardener.cloud
package registry
