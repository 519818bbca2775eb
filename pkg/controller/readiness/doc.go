// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package readiness derives the condition Ready of a cache from its pods and their reports. It is pure: values in,
// condition out.
//
// A replica has at most one [Problem], the most important one: a pod that cannot run is examined no further. [Of] derives
// the condition from the problems of all replicas.
//
// The owner of the Shoot controls pods, claims and reports. So texts from them are bounded, and messages contain nothing
// that changes by itself, such as a counter or an age: an unchanged state must not cause a write.
package readiness
