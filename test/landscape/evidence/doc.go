// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package evidence shows on a running landscape that a private image came through a cache: what the pod, the cache's
// metrics, the upstream's access log and the node's configuration say about it. The end-to-end tests look at the same
// places.
package evidence
