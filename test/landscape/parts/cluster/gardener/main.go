// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command gardener links Gardener's programs into one. The name under which it is called selects the program.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	apiserver "github.com/gardener/gardener/cmd/gardener-apiserver/app"
	controllermanager "github.com/gardener/gardener/cmd/gardener-controller-manager/app"
	resourcemanager "github.com/gardener/gardener/cmd/gardener-resource-manager/app"
	"github.com/gardener/gardener/cmd/utils"
	apiserverfeatures "github.com/gardener/gardener/pkg/apiserver/features"
	controllermanagerfeatures "github.com/gardener/gardener/pkg/controllermanager/features"
	"github.com/spf13/cobra"
	_ "k8s.io/component-base/logs/json/register" // The import registers a log format.
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
)

// program is a command and the registration of its feature gates.
type program struct {
	command  func() *cobra.Command
	features func()
}

var programs = map[string]program{
	"gardener-apiserver":          {command: apiserver.NewCommand, features: apiserverfeatures.RegisterFeatureGates},
	"gardener-controller-manager": {command: controllermanager.NewCommand, features: controllermanagerfeatures.RegisterFeatureGates},
	"gardener-resource-manager":   {command: resourcemanager.NewCommand, features: func() {}},
}

func main() {
	name := filepath.Base(os.Args[0])
	program, ok := programs[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "unknown program %s: call this one through a link with the name of one of Gardener's programs\n", name)
		os.Exit(2)
	}
	utils.DeduplicateWarnings()
	program.features()
	if err := program.command().ExecuteContext(signals.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
