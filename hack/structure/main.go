// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Command structure prints the longest functions and files, and the types with the most fields and methods, of Go
// source trees: go run ./hack/structure [-top 10] [-tests] [DIR...]. Two trees are compared by running it with both.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

func main() {
	top := flag.Int("top", 10, "the number of rows of each table")
	tests := flag.Bool("tests", false, "include tests")
	flag.Parse()
	directories := flag.Args()
	if len(directories) == 0 {
		directories = []string{"."}
	}
	for _, directory := range directories {
		measured, err := measure(directory, *tests)
		if err == nil {
			err = measured.print(os.Stdout, directory, *top)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// size is the size of something in the source.
type size struct {
	name string
	n    int
}

// structure holds the sizes of a source tree.
type structure struct {
	functions, files, fields, methods []size
}

// print prints a table of the largest sizes of each kind.
func (s *structure) print(w io.Writer, title string, top int) error {
	for _, table := range []struct {
		of, unit string
		sizes    []size
	}{
		{"longest functions", "lines", s.functions},
		{"longest files", "lines", s.files},
		{"types with the most fields", "fields", s.fields},
		{"types with the most methods", "methods", s.methods},
	} {
		sizes := slices.SortedFunc(slices.Values(table.sizes), func(a, b size) int {
			return cmp.Or(b.n-a.n, cmp.Compare(a.name, b.name))
		})
		writer := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintf(writer, "%s: %s\n", title, table.of)
		for _, row := range sizes[:min(top, len(sizes))] {
			_, _ = fmt.Fprintf(writer, "%6d %s\t%s\n", row.n, table.unit, row.name)
		}
		_, _ = fmt.Fprintln(writer)
		if err := writer.Flush(); err != nil {
			return err
		}
	}
	return nil
}
