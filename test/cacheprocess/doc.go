// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cacheprocess runs cache servers as processes, ours and stock
// Distribution alike: it builds them, writes their configuration, starts and
// kills them, and tells how much processor time and memory they used. It knows
// them only by their configuration file and by HTTP.
package cacheprocess
