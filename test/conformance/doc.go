// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package conformance checks the cache server against the OCI distribution
// specification, version 1.1, as far as it is about pulling: everything that a
// client may read is asked for while the cache does not have it, while it does,
// and while it does but its upstream is down.
package conformance
