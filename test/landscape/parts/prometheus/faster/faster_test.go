// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faster

import (
	"testing"

	"github.com/prometheus/prometheus/model/rulefmt"
	"go.yaml.in/yaml/v3"
)

func TestExprDividesDurations(t *testing.T) {
	for _, test := range []struct{ name, expr, want string }{
		{"a range", `rate(a_total[5m])`, `rate(a_total[5s])`},
		{"an offset", `a offset 1d`, `a offset 24m`},
		{"a negative offset", `a offset -1h`, `a offset -1m`},
		{"a range with an offset", `increase(a_total[1h] offset 1d)`, `increase(a_total[1m] offset 24m)`},
		{"a subquery", `max_over_time(rate(a_total[5m])[1h:1m] offset 2h)`, `max_over_time(rate(a_total[5s])[1m:1s] offset 2m)`},
		{"a fraction of a second", `rate(a_total[90s])`, `rate(a_total[1s500ms])`},
		{"a prediction", `predict_linear(a[4h], 4 * 24 * 3600) < 0`, `predict_linear(a[4m], (4 * 24 * 3600) / 60) < 0`},
		{"an age", `time() - a > 1800`, `time() - a > (1800) / 60`},
		{"an age on the right", `1800 < (time() - a)`, `(1800) / 60 < (time() - a)`},
		{"the absolute value of an age", `abs(time() - max by (pod) (a > 0)) < 600`, `abs(time() - max by (pod) (a > 0)) < (600) / 60`},
	} {
		if got, err := Factor(60).Expr(test.expr); err != nil || got != test.want {
			t.Errorf("%s: got %s, %v, want %s", test.name, got, err, test.want)
		}
	}
}

func TestExprKeepsTheRest(t *testing.T) {
	for _, expr := range []string{
		`a - time() < 604800`, // The remaining life of a certificate.
		`sum by (upstream_host) (a{b=~"5m"}) > 300`,
		`rate(a_total[5m])`,
	} {
		factor := Factor(60)
		if expr == `rate(a_total[5m])` {
			factor = 1
		}
		if got, err := factor.Expr(expr); err != nil || got != expr {
			t.Errorf("got %s, %v, want %s", got, err, expr)
		}
	}
}

func TestRulesDividesWaits(t *testing.T) {
	content, err := Factor(60).Rules([]byte(`groups:
- name: g
  interval: 1m
  rules:
  - alert: A
    expr: rate(a_total[1h]) > 1
    for: 1h
    keep_firing_for: 10m
    labels: {severity: warning}
    annotations: {summary: s}
  - record: r
    expr: sum(a)
`))
	if err != nil {
		t.Fatal(err)
	}
	var got rulefmt.RuleGroups
	if err := yaml.Unmarshal(content, &got); err != nil {
		t.Fatal(err)
	}
	group := got.Groups[0]
	alert, record := group.Rules[0], group.Rules[1]
	if group.Interval.String() != "1s" || alert.For.String() != "1m" || alert.KeepFiringFor.String() != "10s" ||
		alert.Expr != "rate(a_total[1m]) > 1" || alert.Labels["severity"] != "warning" || alert.Annotations["summary"] != "s" ||
		record.Record != "r" || record.For != 0 {
		t.Errorf("got %s", content)
	}
}

func TestRulesRefusesUnknownFields(t *testing.T) {
	if _, err := Factor(60).Rules([]byte("groups: [{name: g, rules: [{alert: A, expr: a, durations: 5m}]}]")); err == nil {
		t.Error("got no error")
	}
}
