// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package rotation follows the credentials of the caches: it asks the replicas which credential is active and whether
// the upstream accepts it, and reports that to the owner of the Shoot in the provider status, a health condition and
// events.
//
// Package cache deploys a new credential beside the active one and marks it as pending in the provider status. This
// package marks it as active once all replicas have activated it, and then has the old one removed. Package
// credentialstate decides for both.
package rotation
