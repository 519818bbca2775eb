// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build stock

// Package stock pins stock Distribution, against which the benchmarks and the
// fault tests hold the cache server. It is a module of its own, so that it
// stays what its authors released whatever the product requires.
package stock

import _ "github.com/distribution/distribution/v3/cmd/registry"
