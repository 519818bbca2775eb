// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
)

// report is the table: a row for each quantity, a column for each number of Shoots.
type report struct {
	sizes sizes
	// clusterSize is the size of a Cluster in bytes.
	clusterSize int64
	headings    []string
	rows        []*row
	// phases are those whose requests are listed, for the largest number of Shoots.
	phases   []string
	requests map[string]counts
}

// row is a quantity.
type row struct {
	heading, title string
	values         map[int]string
}

func newReport(sizes sizes) *report {
	return &report{sizes: sizes, requests: map[string]counts{}}
}

// set sets the value of a row, which is added to the table if it is new.
func (r *report) set(size int, heading, title, value string) {
	if !slices.Contains(r.headings, heading) {
		r.headings = append(r.headings, heading)
	}
	i := slices.IndexFunc(r.rows, func(row *row) bool { return row.heading == heading && row.title == title })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row{heading: heading, title: title, values: map[int]string{}})
	}
	r.rows[i].values[size] = value
}

// list sets the requests of a phase.
func (r *report) list(phase string, requests counts) {
	if r.requests[phase] == nil {
		r.phases = append(r.phases, phase)
	}
	r.requests[phase] = requests
}

func (r *report) print() {
	fmt.Printf("%-62s", fmt.Sprintf("Shoots with three caches each, Clusters of %d KiB", r.clusterSize>>10))
	for _, size := range r.sizes {
		fmt.Printf(" %9d", size)
	}
	fmt.Println()
	for _, heading := range r.headings {
		fmt.Printf("\n%s\n", heading)
		for _, row := range r.rows {
			if row.heading != heading {
				continue
			}
			fmt.Printf("%-62s", "  "+row.title)
			for _, size := range r.sizes {
				fmt.Printf(" %9s", row.values[size])
			}
			fmt.Println()
		}
	}
	for _, phase := range r.phases {
		fmt.Printf("\nRequests: %s, %d Shoots\n", phase, r.sizes[len(r.sizes)-1])
		for _, request := range r.requests[phase].sorted() {
			fmt.Printf("  %-60s %9d\n", request, r.requests[phase][request])
		}
	}
}
