// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package faults tests cache servers against faults of their upstream, their disk, their clients and their own. Each
// fault is injected into this project's server and into stock Distribution, and the suite ends with a matrix of the
// results. It fails if ours does not withstand a fault, or if stock withstands a fault that it is known to have: such a
// test would prove nothing.
package faults
