// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package seed prepares an API server as that of a seed, for tests and benchmarks of the extension's controllers.
package seed

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// CRDs returns the files with the CRDs of a seed, from Gardener's sources.
func CRDs(ctx context.Context) ([]string, error) {
	directory, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gardener/gardener").Output()
	if err != nil {
		return nil, fmt.Errorf("find Gardener's sources: %w", err)
	}
	names := []string{
		"extensions.gardener.cloud_clusters",
		"extensions.gardener.cloud_extensions",
		"extensions.gardener.cloud_operatingsystemconfigs",
		"resources.gardener.cloud_managedresources",
		"autoscaling.k8s.io_verticalpodautoscalers",
		"monitoring.coreos.com_scrapeconfigs",
		"monitoring.coreos.com_prometheusrules",
	}
	paths := make([]string, 0, len(names))
	for _, name := range names {
		paths = append(paths, filepath.Join(strings.TrimSpace(string(directory)), "example", "seed-crds", "10-crd-"+name+".yaml"))
	}
	return paths, nil
}
