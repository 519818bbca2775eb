// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/component/observability"
)

// The rules are tested by promtool with the files in testdata/rules. Each of them tests rules.yaml, which is written
// beside a copy of them.
var _ = Describe("Rules", Ordered, func() {
	var (
		promtool string
		dir      string
		tests    []ruleTests
	)

	BeforeAll(func() {
		files, err := filepath.Glob("testdata/rules/*.yaml")
		Expect(err).NotTo(HaveOccurred())
		Expect(files).NotTo(BeEmpty())
		dir = GinkgoT().TempDir()
		for _, file := range files {
			data, err := os.ReadFile(file)
			Expect(err).NotTo(HaveOccurred())
			var test ruleTests
			Expect(yaml.Unmarshal(data, &test)).To(Succeed(), file)
			tests = append(tests, test)
			Expect(os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o600)).To(Succeed())
		}
		writeRules(filepath.Join(dir, "rules.yaml"), observability.PrometheusRule(exampleValues()).Spec.Groups)
		promtool = os.Getenv("LARDER_PROMTOOL")
	})

	run := func(args ...string) {
		GinkgoHelper()
		if promtool == "" {
			Skip("no promtool: run make test-unit, or set LARDER_PROMTOOL")
		}
		command := exec.Command(promtool, args...)
		command.Dir = dir
		output, err := command.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), string(output))
	}

	It("pass the checks of promtool", func() {
		run("check", "rules", "--lint-fatal", "rules.yaml")
	})

	It("fire, stay silent and resolve as tested", func() {
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		Expect(err).NotTo(HaveOccurred())
		files = slices.DeleteFunc(files, func(file string) bool { return filepath.Base(file) == "rules.yaml" })
		run(append([]string{"test", "rules"}, files...)...)
	})

	It("have queries of panels that promtool can parse", func() {
		var rules []monitoringv1.Rule
		for i, panel := range slices.Concat(observability.Panels(), observability.SeedPanels()) {
			for j, query := range panel.Queries {
				rules = append(rules, monitoringv1.Rule{Record: fmt.Sprintf("panel:%d_%d", i, j), Expr: intstr.FromString(query.Evaluable())})
			}
		}
		writeRules(filepath.Join(dir, "panels.yaml"), []monitoringv1.RuleGroup{{Name: "panels", Rules: rules}})
		run("check", "rules", "panels.yaml")
	})

	It("have tests in which each alert fires, stays silent and resolves", func() {
		for _, alert := range observability.Alerts() {
			fires, resolves, silent := false, false, false
			for _, file := range tests {
				for _, test := range file.Tests {
					fired := false
					for _, expected := range test.AlertRuleTest {
						if expected.AlertName != alert.Name {
							continue
						}
						switch {
						case len(expected.ExpAlerts) > 0:
							fired, fires = true, true
						case fired:
							resolves = true
						}
					}
					if !fired && slices.ContainsFunc(test.AlertRuleTest, func(e alertTest) bool { return e.AlertName == alert.Name }) {
						silent = true
					}
				}
			}
			Expect([]bool{fires, resolves, silent}).To(HaveEach(true), "%s: fires, resolves, silent", alert.Name)
		}
	})

	It("have tests of each recorded series", func() {
		tested := map[string]bool{}
		for _, file := range tests {
			for _, test := range file.Tests {
				for _, expr := range test.PromQLExprTest {
					tested[expr.Expr] = true
				}
			}
		}
		for _, rule := range observability.RecordingRules() {
			Expect(tested).To(HaveKey(rule.Name))
		}
	})
})

// ruleTests is the part of a test file of promtool that shows what it tests.
type ruleTests struct {
	Tests []struct {
		AlertRuleTest  []alertTest             `json:"alert_rule_test"`
		PromQLExprTest []struct{ Expr string } `json:"promql_expr_test"`
	}
}

type alertTest struct {
	AlertName string `json:"alertname"`
	ExpAlerts []any  `json:"exp_alerts"`
}

// writeRules writes rules as a file for Prometheus.
func writeRules(file string, groups []monitoringv1.RuleGroup) {
	GinkgoHelper()
	data, err := yaml.Marshal(map[string]any{"groups": groups})
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(file, data, 0o600)).To(Succeed())
}
