// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package garden makes the running cluster a Gardener landscape: the project and what a Shoot needs, the charts of this
// repository with the values that gardener-operator and the gardenlet would give them, images in the private registries,
// and the example Shoot. Everything is applied server-side, so that it may run again at any time.
package garden
