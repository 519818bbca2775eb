// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cache is the controller of Extensions of type registry-cache: it deploys the caches of an Extension into the
// Shoot by ManagedResources, and writes their endpoints into the Extension's provider status.
package cache
