// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package pullsecret has what the extension and the controller of pull secrets in a Shoot share: the [Feed], with which
// the extension describes the pull secrets and the accounts of caches, the [Report], with which the controller
// responds, and the formats of the Secrets. It is pure; package keeper has the controller.
package pullsecret
