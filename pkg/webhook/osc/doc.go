// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package osc is the webhook through which nodes learn about the caches: it
// adds containerd registries and the caches' CA to the OperatingSystemConfigs
// of Shoots that use the extension.
//
// # Where it stands in gardenlet's flow
//
// gardenlet labels the Shoot's namespace in the seed, creates the Extension,
// waits until our controller reports success, and only then writes the
// OperatingSystemConfigs, each time from scratch. So what stands in the
// Extension's provider status when a request comes is complete, and what the
// webhook adds is gone by itself once it adds it no longer.
//
// # When the status is missing
//
// Then the webhook refuses the request. Letting it pass would erase the caches
// from all nodes, silently, and until the next reconciliation of the Shoot,
// usually a day later. Refusing costs little: gardenlet does not get here
// before the Extension has a status, a failing Extension keeps the status it
// had, and every other writer retries. Only OperatingSystemConfigs that would
// lose something are refused: not those of Shoots that are being deleted or
// hibernated, nor those of an Extension that is itself being deleted.
//
// # Reads
//
// Cluster, Extension and CA Secret are each read once per request, and from the
// API server: gardenlet's requests come right after those objects changed, and
// a cache that lags behind would hand yesterday's endpoints to the nodes.
package osc
