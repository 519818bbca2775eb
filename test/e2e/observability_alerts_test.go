// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/larder-project/larder/pkg/component/observability"
	"github.com/larder-project/larder/pkg/upstream"
	"github.com/larder-project/larder/test/landscape/monitoring"
)

// expectScraped expects that Prometheus scrapes each replica of each cache, and nothing else by this job.
func expectScraped(ctx context.Context, p *monitoring.Prometheus, caches observedCaches) {
	GinkgoHelper()
	var expected []string
	for host := range caches {
		expected = append(expected, cacheKey(host).Name+"-0")
	}
	expected = append(expected, cacheKey(replicatedHost).Name+"-1")
	Eventually(ctx, func(g Gomega) {
		var scraped []string
		for _, sample := range query(ctx, g, p, fmt.Sprintf("up{job=%q} == 1", observability.Job)) {
			scraped = append(scraped, string(sample.Metric["pod"]))
		}
		g.Expect(scraped).To(ConsistOf(expected))
	}).Should(Succeed())
}

// expectRecorded expects that each recording rule has a value for each cache.
func expectRecorded(ctx context.Context, p *monitoring.Prometheus, caches observedCaches) {
	GinkgoHelper()
	var expected []string
	for host := range caches {
		expected = append(expected, upstream.Upstream(host).LabelValue())
	}
	for _, rule := range observability.RecordingRules() {
		Eventually(ctx, func(g Gomega) {
			var recorded []string
			for _, sample := range query(ctx, g, p, rule.Name) {
				recorded = append(recorded, string(sample.Metric["upstream_host"]))
			}
			g.Expect(recorded).To(ConsistOf(expected), rule.Name)
		}).Should(Succeed())
	}
}

// query returns the current result of a query.
func query(ctx context.Context, g Gomega, p *monitoring.Prometheus, expr string) model.Vector {
	GinkgoHelper()
	value, warnings, err := p.Query(ctx, expr, time.Now())
	g.Expect(err).NotTo(HaveOccurred(), expr)
	g.Expect(warnings).To(BeEmpty(), expr)
	vector, ok := value.(model.Vector)
	g.Expect(ok).To(BeTrue(), "%s is a %s", expr, value.Type())
	return vector
}

// expectPanels runs all queries of all panels and returns a table of the results. Each query has to return a number.
func expectPanels(ctx context.Context, shoot, seed *monitoring.Prometheus) string {
	GinkgoHelper()
	var table strings.Builder
	table.WriteString("| dashboard | panel | unit | query | series | largest value |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, dashboard := range []struct {
		name string
		p    *monitoring.Prometheus
		rows []observability.Row
	}{{"Shoot", shoot, observability.Rows()}, {"seed", seed, observability.SeedRows()}} {
		for _, row := range dashboard.rows {
			for _, panel := range row.Panels {
				for _, q := range panel.Queries {
					var numbers model.Vector
					Eventually(ctx, func(g Gomega) {
						numbers = slices.DeleteFunc(query(ctx, g, dashboard.p, q.Evaluable()), func(s *model.Sample) bool {
							return math.IsNaN(float64(s.Value))
						})
						g.Expect(numbers).NotTo(BeEmpty(), "%s, %s: %s", dashboard.name, panel.Title, q.Expr)
					}).WithTimeout(time.Minute).Should(Succeed())
					largest := slices.MaxFunc(numbers, func(a, b *model.Sample) int { return cmp.Compare(a.Value, b.Value) })
					code := strings.NewReplacer("\n", " ", "|", `\|`).Replace(q.Expr)
					_, _ = fmt.Fprintf(&table, "| %s | %s: %s | %s | `%s` | %d | %.4g |\n",
						dashboard.name, row.Title, panel.Title, panel.Unit, code, len(numbers), float64(largest.Value))
				}
			}
		}
	}
	return table.String()
}

// alertLog records when alerts fire.
type alertLog struct {
	mu sync.Mutex
	// current are the alerts that fire; fired is when they first did, and resolved when they last did not any more, by
	// alert and cache.
	current         []string
	fired, resolved map[string]time.Time
}

// watchAlerts watches alerts until the end of the test.
func watchAlerts(ctx context.Context, p *monitoring.Prometheus) *alertLog {
	log := &alertLog{fired: map[string]time.Time{}, resolved: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				// A failed request changes nothing.
				if result, err := p.Alerts(ctx); err == nil {
					log.update(result.Alerts)
				}
			}
		}
	})
	DeferCleanup(func() { cancel(); running.Wait() })
	return log
}

func (l *alertLog) update(alerts []prometheusv1.Alert) {
	firing := map[string]bool{}
	for _, alert := range alerts {
		if alert.State == prometheusv1.AlertStateFiring {
			firing[string(alert.Labels[model.AlertNameLabel])+" "+alertHost(alert.Labels)] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for alert := range firing {
		if _, ok := l.fired[alert]; !ok {
			l.fired[alert] = time.Now()
		}
	}
	for _, alert := range l.current {
		if !firing[alert] {
			l.resolved[alert] = time.Now()
		}
	}
	l.current = slices.Sorted(maps.Keys(firing))
}

// alertHost returns the upstream of the cache that an alert is about.
func alertHost(labels model.LabelSet) string {
	claim, label := string(labels["persistentvolumeclaim"]), string(labels["upstream_host"])
	for _, host := range observedHosts {
		if claim == "cache-volume-"+cacheKey(host).Name+"-0" || label == upstream.Upstream(host).LabelValue() {
			return host
		}
	}
	return label
}

// all returns all alerts that have fired, each with its cache.
func (l *alertLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.fired))
}

// firing returns the alerts that fire, each with its cache.
func (l *alertLog) firing() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.current)
}

// table returns how long it took until alerts fired and were resolved.
func (l *alertLog) table(causes causes) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	waits := map[string]time.Duration{}
	for _, alert := range observability.Alerts() {
		waits[alert.Name] = alert.For
	}
	var table strings.Builder
	_, _ = fmt.Fprintf(&table, "| alert | cause | waits for | fired after, %d times as fast "+
		"| resolved after, %[1]d times as fast |\n| --- | --- | --- | --- | --- |\n", faster)
	for _, cause := range causes {
		for _, name := range cause.alerts {
			key := name + " " + cause.host
			_, _ = fmt.Fprintf(&table, "| %s | %s | %s | %s | %s |\n", name, cause.what, waits[name],
				l.fired[key].Sub(cause.began).Round(time.Second), l.resolved[key].Sub(cause.ended).Round(time.Second))
		}
	}
	return table.String()
}
