// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package osc implements the webhooks that configure nodes to use caches and mirrors: they add containerd registries and
// CA certificates to the OperatingSystemConfigs of Shoots that use an extension. There is one webhook for each extension
// type, since gardenlet labels namespaces by type. Both are a [Mutator]; they differ in the source of the configuration.
//
// # Place in gardenlet's flow
//
// gardenlet labels the Shoot's namespace in the seed, creates the Extension, waits until our controller reports
// success, and only then writes the OperatingSystemConfigs, each time from scratch. So the Extension is complete when a
// request arrives, and what the webhook no longer adds disappears by itself.
//
// # Missing input
//
// The webhook refuses the request if its input is missing: the provider status with the addresses of the caches, or a
// Secret with CA certificates. Admitting it would silently remove the caches or mirrors from all nodes until the next
// reconciliation of the Shoot, usually a day later. Refusing it costs little: gardenlet does not get here before the
// controller has seen the input, a failing Extension keeps its last status, and every other writer retries. The webhook
// refuses only OperatingSystemConfigs that would lose something: not those of Shoots in deletion, not those of an Extension
// in deletion, and not for the caches of hibernated Shoots, which sleep as well.
//
// # Other webhooks
//
// Other extensions configure the same registries, with an entry for each upstream or one for all (_default). Their
// entries and hosts stay where they are, and ours are merged into them. See merge.go for the order of the hosts and for
// how the webhook recognizes what it added before.
//
// # Reads
//
// The webhook reads each object once per request, and from the API server: gardenlet's requests arrive right after those
// objects changed, and a stale cache would send outdated endpoints to the nodes.
package osc
