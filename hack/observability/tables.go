// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/prometheus/common/model"

	"github.com/larder-project/larder/pkg/component/observability"
)

// tables returns the generated tables by name.
func tables(ofServer, ofController []metric) map[string]string {
	return map[string]string{
		"metrics":            metricsTable(ofServer),
		"controller metrics": metricsTable(ofController),
		"recording rules":    recordingRulesTable(),
		"alerts":             alertsTable(),
		"panels":             panelsTables(observability.Rows()),
		"seed panels":        panelsTables(observability.SeedRows()),
	}
}

func metricsTable(metrics []metric) string {
	rows := make([][]string, 0, len(metrics))
	for _, m := range metrics {
		labels := make([]string, 0, len(m.labels))
		for _, label := range m.labels {
			labels = append(labels, code(label))
		}
		rows = append(rows, []string{code(m.name), m.kind, m.unit(), strings.Join(labels, ", "), m.help})
	}
	return table([]string{"metric", "type", "unit", "labels", "meaning"}, rows)
}

func recordingRulesTable() string {
	rules := observability.RecordingRules()
	rows := make([][]string, 0, len(rules))
	for _, rule := range rules {
		rows = append(rows, []string{code(rule.Name), rule.Unit, rule.Meaning})
	}
	return table([]string{"series", "unit", "meaning"}, rows)
}

func alertsTable() string {
	alerts := observability.Alerts()
	rows := make([][]string, 0, len(alerts))
	for _, alert := range alerts {
		duration := "at once"
		if alert.For > 0 {
			duration = model.Duration(alert.For).String()
		}
		link := "[" + alert.Name + "](alerts.md#" + strings.ToLower(alert.Name) + ")"
		rows = append(rows, []string{link, duration, alert.Summary})
	}
	return table([]string{"alert", "fires after", "meaning"}, rows)
}

func panelsTables(all []observability.Row) string {
	var rows [][]string
	for _, row := range all {
		for _, panel := range row.Panels {
			rows = append(rows, []string{row.Title, panel.Title, string(panel.Kind), unitNames[panel.Unit], panel.Meaning})
		}
	}
	return table([]string{"row", "panel", "type", "unit", "meaning"}, rows)
}

// unitNames are words for the units of Plutono.
var unitNames = map[string]string{
	observability.UnitNone:       "",
	observability.UnitRatio:      "ratio",
	observability.UnitBytes:      "bytes",
	observability.UnitBytesRate:  "bytes/s",
	observability.UnitRequests:   "requests/s",
	observability.UnitOperations: "1/s",
	observability.UnitSeconds:    "seconds",
	observability.UnitCores:      "cores",
	observability.UnitFromNow:    "time",
}

func code(text string) string { return "`" + text + "`" }

// table returns a table in Markdown.
func table(header []string, rows [][]string) string {
	var out strings.Builder
	line := func(cells []string) {
		for _, cell := range cells {
			out.WriteString("| ")
			if cell != "" {
				out.WriteString(strings.ReplaceAll(cell, "|", `\|`) + " ")
			}
		}
		out.WriteString("|\n")
	}
	line(header)
	out.WriteString(strings.Repeat("| --- ", len(header)) + "|\n")
	for _, row := range rows {
		line(row)
	}
	return out.String()
}
