// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package evidence shows on a running landscape that a private image came through a cache: by the pod, the cache's
// metrics, the upstream's access log and the node's configuration. The end-to-end tests use the same sources.
package evidence
