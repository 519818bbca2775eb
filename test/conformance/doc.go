// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package conformance checks the cache server against the pull part of the OCI distribution specification, version 1.1:
// each request is sent while the cache does not have the content, while it does, and while it does but its upstream is
// down.
package conformance
