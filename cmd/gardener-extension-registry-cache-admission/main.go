// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command gardener-extension-registry-cache-admission runs next to a Gardener API server. It validates the registry
// caches and mirrors of Shoots and prevents the deletion of the Secrets that they use.
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
