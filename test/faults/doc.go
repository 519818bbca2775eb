// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package faults holds the tests of what a cache does when everything around it
// fails: its upstream, its disk, its clients and the cache itself. Each fault is
// put to our server and to stock Distribution alike, and the last thing the
// suite prints is a matrix of who withstood what. It fails if ours does not
// withstand a fault, or if stock does withstand one that it is known to have,
// since then the test would prove nothing.
package faults
