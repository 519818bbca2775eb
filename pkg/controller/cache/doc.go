// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cache is the controller of Extensions of type registry-cache: it
// deploys the caches that an Extension asks for into the Shoot, by
// ManagedResources, and says in the Extension's provider status where they are
// reached.
package cache
