// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package garden turns the running cluster into a Gardener landscape: the project and the prerequisites of a Shoot, the
// charts of this repository with the values that gardener-operator and gardenlet would set, images in the private
// registries, and the example Shoot. It uses server-side apply, so that it can run again at any time.
package garden
