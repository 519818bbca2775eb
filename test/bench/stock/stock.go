// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build stock

// Package stock pins stock Distribution, with which benchmarks and faults compare the cache server. It is a separate
// module, so that the product's requirements do not change it.
package stock

import _ "github.com/distribution/distribution/v3/cmd/registry"
