// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package health follows the caches of all Shoots. Once a minute it looks at the pods of a Shoot's caches and asks each
// replica for its report. From that it derives, for each cache, the state of the credential (package credentialstate) and
// the condition Ready (package readiness), and reports them to the owner of the Shoot in the provider status, a health
// condition and events.
//
// A rotation of a credential has two steps. Package cache deploys a new credential beside the active one and marks it as
// pending in the provider status. This package marks it as active once all replicas have activated it, and then has the
// old one removed. Package credentialstate decides for both.
package health
