// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package mirror holds the internal types of the API group
// mirror.extensions.gardener.cloud: what a cluster owner writes into the
// providerConfig of the registry-mirror extension (MirrorConfig).
//
// This product does not run that extension yet. It knows the configuration, as
// the Secrets that mirrors use are protected like those of caches.
//
// +k8s:deepcopy-gen=package
// +groupName=mirror.extensions.gardener.cloud
package mirror
