// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package keeper keeps pull secrets in the namespaces of a cluster as a feed describes them, see package pullsecret.
//
// [Keeper] watches the feed, the namespaces, their default ServiceAccounts, and the Secrets with the names of the pull
// secrets. It reconciles one namespace at a time, from what it watches; it has no state of its own that a restart could
// lose. A Secret that is not labelled as a pull secret of its namespace is never changed.
//
// Every pull secret is owned by a cluster-scoped object of the extension with a name derived from its own. When that is
// deleted, Kubernetes collects the Secrets in all namespaces, whether this controller still runs or not. References in
// ServiceAccounts cannot be collected, so the extension waits for the [pullsecret.Report] before it removes the
// controller.
package keeper
