// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command gardener-extension-registry-cache runs in a seed. It deploys pull-through caches into Shoots and configures
// their nodes to pull through them, and through the mirrors that owners run themselves.
package main

import (
	"os"

	"sigs.k8s.io/controller-runtime/pkg/manager/signals"

	"github.com/larder-project/larder/cmd/gardener-extension-registry-cache/app"
)

func main() {
	if err := app.NewCommand().ExecuteContext(signals.SetupSignalHandler()); err != nil {
		os.Exit(1)
	}
}
