// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/progress"
)

// partsCommand needs neither root nor a landscape: integration tests run an
// API server of their own.
func partsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "parts",
		Short: "Build etcd and kube-apiserver and print the folder that has them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := landscape.Open()
			if err != nil {
				return err
			}
			cache, err := parts.DefaultCache()
			if err != nil {
				return err
			}
			builder := parts.Builder{Repository: l.Repository(), Cache: cache, Log: progress.New(os.Stderr)}
			paths, err := builder.Build(cmd.Context(), parts.Etcd, parts.KubeAPIServer)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), filepath.Dir(paths[parts.KubeAPIServer]))
			return err
		},
	}
}
