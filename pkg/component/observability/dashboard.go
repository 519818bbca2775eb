// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// DashboardConfigMapName is the name of the ConfigMap with the dashboard of a Shoot.
	DashboardConfigMapName = "registry-cache-dashboards"

	// Plutono identifies dashboards by these, with at most 40 characters.
	dashboardUID     = "extension-extension-registry-cache"
	seedDashboardUID = dashboardUID + "-seed"
)

// DashboardConfigMap has the dashboard for the Plutono of the Shoot.
func DashboardConfigMap(namespace string) (*corev1.ConfigMap, error) {
	data, err := Dashboard()
	if err != nil {
		return nil, err
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name:      DashboardConfigMapName,
			Namespace: namespace,
			Labels: map[string]string{
				"component": componentName,
				"dashboard.monitoring.gardener.cloud/shoot": "true",
			},
		},
		Data: map[string]string{"registry-cache.dashboard.json": string(data)},
	}, nil
}

// Dashboard returns the dashboard of a Shoot as JSON.
func Dashboard() ([]byte, error) {
	return marshal(newDashboard(dashboardUID, "Registry Caches", Rows(),
		newVariable("upstream_host", "Cache", "label_values(registry_proxy_requests_total, upstream_host)"),
		newVariable("pod", "Replica", `label_values(registry_proxy_requests_total{upstream_host=~"$upstream_host"}, pod)`),
	))
}

// SeedDashboard returns the dashboard of a seed as JSON.
func SeedDashboard() ([]byte, error) {
	return marshal(newDashboard(seedDashboardUID, "Registry Caches of all Shoots", SeedRows()))
}

func marshal(d dashboard) ([]byte, error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshal dashboard %s: %w", d.UID, err)
	}
	return append(data, '\n'), nil
}

const (
	rowWidth    = 24
	titleHeight = 1
	statHeight  = 4
	panelHeight = 8
)

// newDashboard places the panels of each row from left to right.
func newDashboard(uid, title string, rows []Row, variables ...variable) dashboard {
	d := dashboard{
		Annotations: list[any]{List: []any{}}, Editable: true, GraphTooltip: sharedCrosshair,
		Refresh: "1m", SchemaVersion: schemaVersion, Style: "dark", Tags: []string{"registry", "cache"},
		Templating: list[variable]{List: append([]variable{}, variables...)},
		Time:       timeRange{From: "now-6h", To: "now"}, Timezone: "utc",
		Title: title, UID: uid, Version: 1,
	}
	y := 0
	for _, row := range rows {
		d.add(newRowPanel(row.Title, gridPosition{Height: titleHeight, Width: rowWidth, Y: y}))
		y += titleHeight
		x, height := 0, 0
		for _, p := range row.Panels {
			if x+p.Width > rowWidth {
				x, y = 0, y+height
			}
			height = panelHeight
			if p.Kind == Stat {
				height = statHeight
			}
			d.add(newPanel(p, gridPosition{Height: height, Width: p.Width, X: x, Y: y}))
			x += p.Width
		}
		y += height
	}
	return d
}

// add appends a panel with the next ID.
func (d *dashboard) add(p panel) {
	p.ID = len(d.Panels) + 1
	d.Panels = append(d.Panels, p)
}

func newRowPanel(title string, position gridPosition) panel {
	return panel{Type: "row", Title: title, GridPosition: position}
}

func newPanel(p Panel, position gridPosition) panel {
	out := panel{
		Type: string(p.Kind), Title: p.Title, Description: p.Meaning, GridPosition: position,
		FieldConfig: &fieldConfig{Defaults: fieldDefaults{Unit: p.Unit}, Overrides: []any{}},
	}
	if p.Datasource != "" {
		out.Datasource = &p.Datasource
	}
	for i, query := range p.Queries {
		t := target{Expr: query.Expr, LegendFormat: query.Legend, RefID: string(rune('A' + i))}
		switch p.Kind {
		case Stat:
			t.Instant = true
		case Table:
			t.Instant, t.Format = true, "table"
		}
		out.Targets = append(out.Targets, t)
	}
	switch p.Kind {
	case Stat:
		out.Options = statOptions{
			ColorMode: "value", GraphMode: "none", JustifyMode: "auto", Orientation: "auto", TextMode: "auto",
			ReduceOptions: reduceOptions{Calcs: []string{"lastNotNull"}},
		}
	case Table:
		out.Options = tableOptions{ShowHeader: true, SortBy: []sortBy{{DisplayName: "Value", Desc: true}}}
		out.Transformations = []transformation{{ID: "organize", Options: hideOtherLabels(p.Labels)}}
	case Graph:
		out.graphOptions = newGraphOptions(p.Unit)
	}
	return out
}

// hideOtherLabels hides the time of a table and orders its columns.
func hideOtherLabels(labels []string) organizeOptions {
	options := organizeOptions{ExcludeByName: map[string]bool{"Time": true}, IndexByName: map[string]int{}, RenameByName: map[string]string{}}
	for i, label := range append(labels[:len(labels):len(labels)], "Value") {
		options.IndexByName[label] = i
	}
	return options
}
