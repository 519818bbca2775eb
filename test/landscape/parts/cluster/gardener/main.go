// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command gardener is Gardener's programs in one: it runs the one that it is
// called by the name of.
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
	_ "k8s.io/component-base/logs/json/register" // A log format is registered by import.
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
		fmt.Fprintf(os.Stderr, "%s is none of Gardener's programs; call this one by a link with the name of one\n", name)
		os.Exit(2)
	}
	utils.DeduplicateWarnings()
	program.features()
	if err := program.command().ExecuteContext(signals.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
