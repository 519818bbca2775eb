// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package upstreamsim simulates the registry behind a cache: it serves images
// from memory with the bandwidth, latency and authentication of a registry far
// away, counts what it is asked, and misbehaves on command. Benchmarks run it
// as a process of its own, fault tests within theirs.
package upstreamsim
