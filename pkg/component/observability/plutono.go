// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability

// The types below are the part of the dashboard schema that is used here. Plutono is a fork of Grafana 7.5, so graphs are
// panels of type graph, not timeseries.

const (
	schemaVersion = 27
	// sharedCrosshair shows the time under the pointer in all graphs.
	sharedCrosshair = 1
	// refreshOnTimeRange reads the values of a variable again when the time range changes.
	refreshOnTimeRange = 2
	// sortAlphabetically sorts the values of a variable.
	sortAlphabetically = 1
)

type dashboard struct {
	Annotations   list[any]      `json:"annotations"`
	Editable      bool           `json:"editable"`
	GraphTooltip  int            `json:"graphTooltip"`
	Panels        []panel        `json:"panels"`
	Refresh       string         `json:"refresh"`
	SchemaVersion int            `json:"schemaVersion"`
	Style         string         `json:"style"`
	Tags          []string       `json:"tags"`
	Templating    list[variable] `json:"templating"`
	Time          timeRange      `json:"time"`
	Timezone      string         `json:"timezone"`
	Title         string         `json:"title"`
	UID           string         `json:"uid"`
	Version       int            `json:"version"`
}

type list[T any] struct {
	List []T `json:"list"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// variable is a choice of values of a label.
type variable struct {
	AllValue   string  `json:"allValue"`
	Current    choice  `json:"current"`
	Datasource *string `json:"datasource"`
	Definition string  `json:"definition"`
	IncludeAll bool    `json:"includeAll"`
	Label      string  `json:"label"`
	Multi      bool    `json:"multi"`
	Name       string  `json:"name"`
	Options    []any   `json:"options"`
	Query      query   `json:"query"`
	Refresh    int     `json:"refresh"`
	Sort       int     `json:"sort"`
	Type       string  `json:"type"`
}

type choice struct {
	Text  string `json:"text"`
	Value string `json:"value"`
}

type query struct {
	Query string `json:"query"`
	RefID string `json:"refId"`
}

// newVariable returns a variable with the values that a query returns. All of them are chosen at first.
func newVariable(name, label, values string) variable {
	return variable{
		AllValue: ".+", Current: choice{Text: "All", Value: "$__all"}, Definition: values, IncludeAll: true, Label: label,
		Multi: true, Name: name, Options: []any{}, Query: query{Query: values, RefID: "StandardVariableQuery"},
		Refresh: refreshOnTimeRange, Sort: sortAlphabetically, Type: "query",
	}
}

type panel struct {
	ID              int              `json:"id"`
	Type            string           `json:"type"`
	Title           string           `json:"title"`
	Description     string           `json:"description,omitempty"`
	Datasource      *string          `json:"datasource"`
	GridPosition    gridPosition     `json:"gridPos"`
	FieldConfig     *fieldConfig     `json:"fieldConfig,omitempty"`
	Options         any              `json:"options,omitempty"`
	Targets         []target         `json:"targets,omitempty"`
	Transformations []transformation `json:"transformations,omitempty"`

	*graphOptions
}

type gridPosition struct {
	Height int `json:"h"`
	Width  int `json:"w"`
	X      int `json:"x"`
	Y      int `json:"y"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []any         `json:"overrides"`
}

type fieldDefaults struct {
	Unit string `json:"unit"`
}

type target struct {
	Expr         string `json:"expr"`
	Format       string `json:"format,omitempty"`
	Instant      bool   `json:"instant,omitempty"`
	Interval     string `json:"interval"`
	LegendFormat string `json:"legendFormat"`
	RefID        string `json:"refId"`
}

type statOptions struct {
	ColorMode     string        `json:"colorMode"`
	GraphMode     string        `json:"graphMode"`
	JustifyMode   string        `json:"justifyMode"`
	Orientation   string        `json:"orientation"`
	ReduceOptions reduceOptions `json:"reduceOptions"`
	TextMode      string        `json:"textMode"`
}

type reduceOptions struct {
	Calcs  []string `json:"calcs"`
	Fields string   `json:"fields"`
	Values bool     `json:"values"`
}

type tableOptions struct {
	ShowHeader bool     `json:"showHeader"`
	SortBy     []sortBy `json:"sortBy"`
}

type sortBy struct {
	DisplayName string `json:"displayName"`
	Desc        bool   `json:"desc"`
}

type transformation struct {
	ID      string          `json:"id"`
	Options organizeOptions `json:"options"`
}

type organizeOptions struct {
	ExcludeByName map[string]bool   `json:"excludeByName"`
	IndexByName   map[string]int    `json:"indexByName"`
	RenameByName  map[string]string `json:"renameByName"`
}

// graphOptions are the options of panels of type graph.
type graphOptions struct {
	Fill          int     `json:"fill"`
	Legend        legend  `json:"legend"`
	Lines         bool    `json:"lines"`
	LineWidth     int     `json:"linewidth"`
	NullPointMode string  `json:"nullPointMode"`
	Renderer      string  `json:"renderer"`
	Tooltip       tooltip `json:"tooltip"`
	XAxis         axis    `json:"xaxis"`
	YAxes         []axis  `json:"yaxes"`
}

type legend struct {
	Show bool `json:"show"`
}

type tooltip struct {
	Shared    bool   `json:"shared"`
	Sort      int    `json:"sort"`
	ValueType string `json:"value_type"`
}

type axis struct {
	Format  string  `json:"format,omitempty"`
	LogBase int     `json:"logBase,omitempty"`
	Min     *string `json:"min"`
	Mode    string  `json:"mode,omitempty"`
	Show    bool    `json:"show"`
}

func newGraphOptions(unit string) *graphOptions {
	return &graphOptions{
		Fill: 1, Legend: legend{Show: true}, Lines: true, LineWidth: 1, NullPointMode: "null", Renderer: "flot",
		Tooltip: tooltip{Shared: true, Sort: 2, ValueType: "individual"},
		XAxis:   axis{Mode: "time", Show: true},
		YAxes: []axis{
			{Format: unit, LogBase: 1, Min: new("0"), Show: true},
			{Format: unit, LogBase: 1},
		},
	}
}
