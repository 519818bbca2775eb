// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package credentialstate is the state machine of a cache's credentials. It is pure. Two
// controllers feed it with their observations and write its results into the provider status of the Extension.
//
// A credential is replaced in two steps. Package cache deploys the new one beside the one that was active so far
// (Deployed.Next), and the state is Pending (Deployed.Status). Package health asks the replicas (Observe): once all
// of them have activated the new one, the state is Active, and the old one is the previous. Package cache then deploys
// the new one alone, and the previous one is gone from the status.
//
// The two controllers share the status because neither can wait for the other: a reconciliation must finish before
// there are nodes, and therefore replicas; the replicas must be polled every few seconds. Optimistic locking keeps each
// from overwriting what the other has written. Only package cache changes what is deployed, so package health
// requests a reconciliation, as gardenlet does, to have the previous credential removed.
package credentialstate
