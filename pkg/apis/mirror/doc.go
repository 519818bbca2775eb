// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package mirror contains the internal types of the API group mirror.extensions.gardener.cloud: the providerConfig of
// the registry-mirror extension (MirrorConfig).
//
// +k8s:deepcopy-gen=package
// +groupName=mirror.extensions.gardener.cloud
package mirror
