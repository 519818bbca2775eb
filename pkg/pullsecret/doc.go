// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package pullsecret has what the extension and the controller of pull secrets in a Shoot share: the [Feed], with which
// the extension describes the pull secrets, the [Report], with which the controller responds, and the format of a pull
// secret. It is pure; package keeper has the controller.
package pullsecret
