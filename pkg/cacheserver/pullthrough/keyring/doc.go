// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package keyring decides which credential a cache presents to its upstream. It is the only place that does.
//
// # Reading
//
// A Source reads credentials from files that may change at any time. Nothing watches the files: each Read costs a few
// stat calls unless one of them has changed. A file that is unreadable or half written changes nothing; the last good
// credential stays. Without any good credential, Read fails: a missing or invalid credential never becomes anonymous
// access.
//
// A Directory holds the files username and password, as a mounted Secret does, or a Docker configuration in config.json
// or .dockerconfigjson, whose auths name hosts with an optional path: the longest path wins. If it holds both, the two
// files are for repositories that no path matches. The file name names the whole set, and files with the prefix
// "previous." hold the credential that was active before.
//
// # Rotation
//
// A Keyring replaces one set of credentials with another without a failed pull. The active set is presented to the
// upstream; a candidate is checked first. If the upstream accepts the candidate, it becomes active, and the old set is
// forgotten with all its tokens; requests in flight end as they began. If the upstream rejects it, or the result is
// unknown, the old set stays active. The candidate is checked again at growing intervals, and soon after the upstream
// rejects the active set. The first set has no predecessor: it is active whatever the upstream says.
//
// # Issuing
//
// Material such as an access key is no credential: a Keyring has credentials issued from it, see package issuer, and
// renews them beside the checks. A candidate is checked with the credential that is issued from it, so a key that the
// cloud rejects never replaces one that works. A newer token of a workload identity is not a rotation: the next renewal
// uses it.
//
// Exec is for short-lived credentials: it runs a docker credential helper and applies the same rule, that a rejected
// credential never replaces a working one, to the credentials that the helper returns.
package keyring
