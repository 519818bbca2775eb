// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// column is a measured server.
type column string

// raw is Go's file server or the upstream itself, whichever limits the measurement. The other columns are the names of
// implementations.
const raw column = "raw"

// limit is the maximum of a value.
type limit struct {
	value    float64
	timesRaw float64
	plusRaw  float64
	// orTimesRaw is used with value when that is more: on a machine that needs longer than value for plain files, value
	// says nothing about a cache.
	orTimesRaw float64
}

func (l limit) of(r *row) (float64, bool) {
	base := r.median(raw)
	switch {
	case l.timesRaw > 0:
		return base * l.timesRaw, len(r.values[raw]) > 0
	case l.plusRaw > 0:
		return base + l.plusRaw, len(r.values[raw]) > 0
	default:
		return max(l.value, base*l.orTimesRaw), l.value > 0
	}
}

// row is a quantity; less is better.
type row struct {
	what   string
	format string // of the values, with their unit
	limit  limit
	values map[column][]float64
}

func (r *row) median(c column) float64 {
	sorted := slices.Sorted(slices.Values(r.values[c]))
	if len(sorted) == 0 {
		return 0
	}
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

func (r *row) cell(c column) string {
	if len(r.values[c]) == 0 {
		return "-"
	}
	return fmt.Sprintf(r.format, r.median(c))
}

// table collects the values of all runs.
type table struct{ rows []*row }

// row returns the row of the given name, and creates it if it does not exist.
func (t *table) row(what, format string, l limit) *row {
	for _, r := range t.rows {
		if r.what == what {
			return r
		}
	}
	r := &row{what: what, format: format, limit: l, values: map[column][]float64{}}
	t.rows = append(t.rows, r)
	return r
}

func (r *row) add(c column, value float64) { r.values[c] = append(r.values[c], value) }

// noise is the factor by which a value may exceed stock's before it counts as worse.
const noise = 1.05

func (t *table) render() string {
	lines := make([][]string, 0, 1+len(t.rows))
	lines = append(lines, []string{"what", "raw", "stock", "ours", "ours/stock", "ours must", ""})
	for _, r := range t.rows {
		ratio, bound, verdict := "-", "-", ""
		stock, ours := r.median("stock"), r.median("ours")
		measured := len(r.values["ours"]) > 0
		if measured && stock > 0 {
			ratio = fmt.Sprintf("%.2f", ours/stock)
			if ours > stock*noise {
				verdict = "BEHIND"
			}
		}
		if most, ok := r.limit.of(r); ok {
			bound = "<= " + fmt.Sprintf(r.format, most)
			if measured && ours > most*1.005 {
				verdict = "MISSED"
			} else if measured && verdict == "" {
				verdict = "ok"
			}
		}
		lines = append(lines, []string{r.what, r.cell(raw), r.cell("stock"), r.cell("ours"), ratio, bound, verdict})
	}
	return align(lines)
}

func align(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for n, line := range lines {
		for i, cell := range line {
			if i == 0 {
				fmt.Fprintf(&out, "| %-*s ", widths[i], cell)
			} else {
				fmt.Fprintf(&out, "| %*s ", widths[i], cell)
			}
		}
		out.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				out.WriteString("|" + strings.Repeat("-", width+2))
			}
			out.WriteString("|\n")
		}
	}
	return out.String()
}
