// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package gardenlet stands in for the gardenlet in the landscape: it does for a Shoot what an extension of type
// registry-cache and the containerd of a node get to see, in the order of Gardener's own flow, and with Gardener's own
// code wherever that can run alone.
//
// What it does for every Shoot of the project:
//
//   - the namespace in the seed with the labels that select webhooks, the Cluster resource, the kubeconfig Secret
//     "gardener", the referenced Secrets as "ref-<name>" by a ManagedResource;
//   - the Extension resources, deployed, awaited and removed by Gardener's extension component;
//   - an OperatingSystemConfig for each worker pool and purpose, written after the Extension is ready, so that mutating
//     webhooks see it as in a real seed;
//   - on the node, gardener-node-agent's own reconciler, which probes the caches and writes hosts.toml;
//   - the Shoot's status: last operation, last errors with their codes, and the conditions that Extensions report; the
//     Cluster resource once more after an operation has succeeded, with that in it;
//   - the same backwards when the extension leaves the Shoot, and when the Shoot is deleted.
//
// What it leaves out:
//
//   - Everything that makes a control plane and machines. One cluster plays garden, seed and shoot, so all Shoots share
//     one kube-system: only one of them may use registry caches at a time.
//   - Infrastructure, ControlPlane, Network, Worker, DNSRecord and the other extension kinds. The OperatingSystemConfig
//     has no controller either; its status is set here, without units or files of an operating system.
//   - The OperatingSystemConfig has one unit and one file of its own instead of the two dozen that start a kubelet.
//   - D-Bus, the extraction of binaries from images and containerd's restart: the node's own containerd runs already.
//     Gardener's fakes take their place.
//   - A hibernated Shoot has no machines: the node's registry configuration and the agent's state are wiped, while the
//     node itself stays.
//   - The order of extension lifecycles, maintenance, credential rotation, control plane migration, force deletion, and
//     the parallel running of the flow's steps.
//   - The kubeconfig Secret holds the landscape's admin certificate instead of a certificate for each Shoot.
package gardenlet
