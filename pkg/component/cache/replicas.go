// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import "fmt"

// MaxReplicas is the number of replicas of a highly available cache, each with a pod and a claim.
const MaxReplicas = 2

// PodName returns the name of the pod of the replica with the given ordinal.
func PodName(statefulSet string, ordinal int) string {
	return fmt.Sprintf("%s-%d", statefulSet, ordinal)
}
