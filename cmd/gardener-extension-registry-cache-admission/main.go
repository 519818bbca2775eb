// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command gardener-extension-registry-cache-admission runs beside a Gardener
// API server: it validates what Shoots make of the registry-cache extension, and
// keeps the Secrets that they use from being deleted.
package main

import (
	"os"

	"sigs.k8s.io/controller-runtime/pkg/manager/signals"

	"github.com/larder-project/larder/cmd/gardener-extension-registry-cache-admission/app"
)

func main() {
	if err := app.NewCommand().ExecuteContext(signals.SetupSignalHandler()); err != nil {
		os.Exit(1)
	}
}
