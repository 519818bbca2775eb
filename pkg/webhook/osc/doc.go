// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package osc implements the webhook that configures nodes to use the caches: it adds containerd registries and the CA
// of the caches to the OperatingSystemConfigs of Shoots that use the extension.
//
// # Place in gardenlet's flow
//
// gardenlet labels the Shoot's namespace in the seed, creates the Extension, waits until our controller reports
// success, and only then writes the OperatingSystemConfigs, each time from scratch. So the provider status of the
// Extension is complete when a request arrives, and what the webhook no longer adds disappears by itself.
//
// # Missing status
//
// The webhook refuses the request if the status is missing. Admitting it would silently remove the caches from all
// nodes until the next reconciliation of the Shoot, usually a day later. Refusing it costs little: gardenlet does not
// get here before the Extension has a status, a failing Extension keeps its last status, and every other writer
// retries. The webhook refuses only OperatingSystemConfigs that would lose something: not those of Shoots in deletion
// or hibernation, and not those of an Extension in deletion.
//
// # Reads
//
// The webhook reads the Cluster, the Extension and the CA Secret once per request, and from the API server: gardenlet's
// requests arrive right after those objects changed, and a stale cache would send outdated endpoints to the nodes.
package osc
