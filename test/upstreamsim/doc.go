// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package upstreamsim simulates registries: their authentication, their token server, and a content that is either in
// memory or served by another handler.
//
// Content in memory has the bandwidth and the latency of a remote registry and misbehaves on command; unit tests,
// faults and benchmarks run it. The landscape puts the same registry in front of Distribution's handlers, which accept
// pushes and keep their content over restarts. Every registry counts and reports its requests.
package upstreamsim
