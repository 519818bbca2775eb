// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cacheserver implements the server of a cache pod: Distribution as a library behind an HTTP server of our own.
//
// Distribution provides the registry API, the storage layout and the parser of its configuration file, so the server
// can replace a stock registry in proxy mode and take over its data. The HTTP server is our own because the stock one
// does not reload a renewed certificate, does not drain by default, exposes expvar and pprof on the debug port, exports
// traces to an address that is not configured, and keeps its health checks in a global variable.
//
// A configuration file is processed in these steps:
//
//	Load      parse it with Distribution's parser and validate it field by field
//	newApp    build Distribution's application and the engine
//	newServer add TLS, health checks and the access log, and the debug server
//
// RunLocal takes a typed configuration instead, which is processed in the same steps.
//
// Only this package and its subpackages import Distribution.
package cacheserver
