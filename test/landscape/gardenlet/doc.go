// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package gardenlet is the landscape's stand-in for the gardenlet: it performs the part of its work that an extension
// of type registry-cache and the containerd of a node can observe, in the order of Gardener's own flow, and with
// Gardener's code where that runs on its own.
//
// For every Shoot of the project, it deploys and updates:
//
//   - the namespace in the seed with the labels that select webhooks, the Cluster resource, the kubeconfig Secret
//     "gardener", and the referenced Secrets as "ref-<name>" through a ManagedResource;
//   - the Extension resources, by Gardener's extension component;
//   - an OperatingSystemConfig for each worker pool and purpose, after the Extension is ready, so that mutating webhooks
//     see it as in a real seed;
//   - the node, by gardener-node-agent's own reconciler, which probes the caches and writes hosts.toml;
//   - the Shoot's status: last operation, last errors with their codes, and the conditions that Extensions report; then
//     again the Cluster resource, which includes the status after a successful operation.
//
// It does the reverse when the Shoot no longer uses the extension, or is deleted. It omits:
//
//   - Control planes and machines. One cluster is garden, seed and shoot, so all Shoots share one kube-system: only one of
//     them can use registry caches at a time.
//   - Infrastructure, ControlPlane, Network, Worker, DNSRecord and the other kinds of extensions. The status of the
//     OperatingSystemConfig is set here, without units or files of an operating system.
//   - The content of a real OperatingSystemConfig: it has one unit and one file instead of the two dozen of a kubelet.
//   - D-Bus, the extraction of binaries from images and the restart of containerd, which already runs. Gardener's fakes
//     replace them.
//   - The end of a hibernated Shoot's machines: only the node's registry configuration and the agent's state are removed.
//   - The order of extension lifecycles, maintenance, credential rotation, control plane migration, force deletion, and
//     parallel steps.
//   - A certificate for each Shoot: the kubeconfig Secret holds the landscape's admin certificate.
package gardenlet
