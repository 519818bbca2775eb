// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"fmt"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// maxSeries bounds the series of a recording rule and the alerts of an alert: two for each replica of the maximum of
	// 150 caches, each with two replicas. Prometheus drops the result of a rule that has more.
	maxSeries = 600

	runbooks = "https://github.com/larder-project/larder/blob/main/docs/alerts.md#"
)

// PrometheusRule has the recording rules and the alerts of the caches.
func PrometheusRule(values Values) *monitoringv1.PrometheusRule {
	return &monitoringv1.PrometheusRule{
		ObjectMeta: configObjectMeta(values.Namespace),
		Spec: monitoringv1.PrometheusRuleSpec{Groups: []monitoringv1.RuleGroup{{
			Name:  "registry-cache.rules",
			Limit: new(maxSeries),
			Rules: append(recordingRules(values.Caches), alertingRules()...),
		}}},
	}
}

func recordingRules(caches []Cache) []monitoringv1.Rule {
	var rules []monitoringv1.Rule
	for _, rule := range RecordingRules() {
		if rule.Name != DesiredReplicas {
			rules = append(rules, monitoringv1.Rule{Record: rule.Name, Expr: intstr.FromString(rule.Expr)})
			continue
		}
		for _, cache := range caches {
			rules = append(rules, monitoringv1.Rule{
				Record: rule.Name,
				Expr:   intstr.FromString(fmt.Sprintf("vector(%d)", cache.Replicas)),
				Labels: map[string]string{"upstream_host": cache.Upstream.LabelValue()},
			})
		}
	}
	return rules
}

func alertingRules() []monitoringv1.Rule {
	alerts := Alerts()
	rules := make([]monitoringv1.Rule, 0, len(alerts))
	for _, alert := range alerts {
		rule := monitoringv1.Rule{
			Alert: alert.Name,
			Expr:  intstr.FromString(alert.Expr),
			Labels: map[string]string{
				"service":    "registry-cache-extension",
				"severity":   "warning",
				"type":       "shoot",
				"visibility": "owner",
			},
			Annotations: map[string]string{
				"summary":     alert.Summary,
				"description": alert.Description,
				"runbook_url": runbooks + strings.ToLower(alert.Name),
			},
		}
		if alert.For > 0 {
			rule.For = new(monitoringv1.Duration(model.Duration(alert.For).String()))
		}
		rules = append(rules, rule)
	}
	return rules
}
