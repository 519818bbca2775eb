// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cacheserver is the server that a cache pod runs: Distribution as a library behind an HTTP server of our own.
//
// Distribution gives the registry API, the storage drivers and the reading of its configuration file, so that the
// server can take the place of a stock registry in proxy mode, and take over its data. The HTTP server is ours because
// the stock one cannot follow a certificate that is renewed under it, does not drain by default, shows expvar and pprof
// to whoever reaches the debug port, exports traces to an address that nobody configured, and keeps its health checks
// in a variable of the process.
//
// A configuration file takes this way:
//
//	Load (Distribution's parser) -> validate (what the server can do, field by field) -> newApp (Distribution's
//	application) -> Server (TLS, health, access log around it; a debug server beside it)
//
// RunLocal takes a typed configuration instead, which goes the same way.
//
// This is the only package of the product, its sub-packages aside, that imports Distribution.
package cacheserver
