// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build parts

// Package parts pins the Gardener programs that the landscape starts. They
// live in a module of their own, so that their requirements never reach the
// product's.
package parts

import (
	_ "github.com/gardener/gardener/cmd/gardener-apiserver"
	_ "github.com/gardener/gardener/cmd/gardener-controller-manager"
	_ "github.com/gardener/gardener/cmd/gardener-resource-manager"
)
