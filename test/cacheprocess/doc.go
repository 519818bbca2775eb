// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cacheprocess runs cache servers as processes, this project's and stock Distribution alike: it builds them,
// writes their configuration, starts and kills them, and measures their processor time and memory. Its only interfaces
// to them are their configuration file and HTTP.
package cacheprocess
