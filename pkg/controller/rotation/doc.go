// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package rotation follows the credentials of the caches: it asks the replicas
// which ones they use and what their upstream says, and tells the owner of the
// Shoot, by the provider status, a health condition and events.
//
// The controller of the caches deploys new credentials beside the old ones and
// says in the provider status that they are pending. This one says when all
// replicas have taken them over, and has the old ones removed then.
package rotation
