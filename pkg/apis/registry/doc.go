// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package registry holds the internal types of the API group
// registry.extensions.gardener.cloud: what a cluster owner writes into the
// providerConfig of the registry-cache extension (RegistryConfig), and what
// the extension answers in its provider status (RegistryStatus).
//
// +k8s:deepcopy-gen=package
// +groupName=registry.extensions.gardener.cloud
package registry
