// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command observability writes what is generated from the catalogs of package observability and from the metrics of a
// running cache server: the tables in docs/observability.md, and the dashboard of seeds in the chart of the controller.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/larder-project/larder/pkg/component/observability"
)

const (
	document  = "docs/observability.md"
	dashboard = "charts/gardener-extension-registry-cache/dashboards/registry-cache-seed.json"

	// timeout limits the start of the cache server.
	timeout = time.Minute
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run writes the files. The working directory is the root of the repository.
func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	files, err := generate(ctx, ".")
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the content of the generated files by name, given the root of the repository.
func generate(ctx context.Context, root string) (map[string][]byte, error) {
	metrics, err := serverMetrics(ctx)
	if err != nil {
		return nil, fmt.Errorf("collect metrics of the cache server: %w", err)
	}
	ofController, err := controllerMetrics()
	if err != nil {
		return nil, fmt.Errorf("collect metrics of the controller: %w", err)
	}
	before, err := os.ReadFile(root + "/" + document)
	if err != nil {
		return nil, err
	}
	after, err := replaceTables(before, tables(metrics, ofController))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", document, err)
	}
	seed, err := observability.SeedDashboard()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{document: after, dashboard: seed}, nil
}

// replaceTables replaces the text between the markers of each table. Every marker must be there.
func replaceTables(text []byte, tables map[string]string) ([]byte, error) {
	for name, table := range tables {
		begin, end := []byte("<!-- begin generated "+name+" -->\n"), []byte("<!-- end generated "+name+" -->\n")
		head, rest, ok := bytes.Cut(text, begin)
		if !ok {
			return nil, fmt.Errorf("marker %q is missing", begin)
		}
		_, tail, ok := bytes.Cut(rest, end)
		if !ok {
			return nil, fmt.Errorf("marker %q is missing", end)
		}
		text = bytes.Join([][]byte{head, begin, []byte("\n" + table + "\n"), end, tail}, nil)
	}
	return text, nil
}
