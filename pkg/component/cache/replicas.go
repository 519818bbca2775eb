// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import "fmt"

// MaxReplicas is how many replicas a cache has at most, with as many pods and claims.
const MaxReplicas = maxReplicas

// PodName returns the name of the pod of the replica with the given ordinal.
func PodName(statefulSet string, ordinal int) string {
	return fmt.Sprintf("%s-%d", statefulSet, ordinal)
}
